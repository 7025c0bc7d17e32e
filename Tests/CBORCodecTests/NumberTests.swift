import CBORCodec
import JSONCodec
import TestSupport
import Testing

@Suite struct NumberTests {
    @Test("all half floats are read as what they are, and written as they were")
    func halfFloats() throws {
        for bits in UInt16.min...UInt16.max {
            let cbor = [0xf9, UInt8(bits >> 8), UInt8(bits & 0xff)]
            let expected = Float16(bitPattern: bits)
            guard expected.isFinite else {
                #expect(throws: CBORFault.notFinite(offset: 0)) { try decoded(cbor) }
                continue
            }
            let json = try decoded(cbor)
            let number = try #require(JSONSlice(json[...]).double())
            #expect(number.bitPattern == Double(expected).bitPattern, "\(bits)")
            #expect(transcoded(json) == cbor, "\(bits)")
            // The numbers beside it are no half floats, but for zero and where they are beyond them all.
            if expected != 0 {
                #expect(transcoded(Array("\(number.nextUp)".utf8)).count == 9)
                #expect(transcoded(Array("\(number.nextDown)".utf8)).count == 9)
                #expect(transcoded(Array("\(Double(Float(number).nextUp))".utf8)).count == 5)
                #expect(transcoded(Array("\(Double(Float(number).nextDown))".utf8)).count == 5)
            }
        }
    }

    /// Compares what is written for a number with what Swift makes of its digits.
    private func check(_ text: String) {
        #expect(transcoded(Array(text.utf8)) == Reference.float(Double(text)!).cbor, "\(text)")
    }

    @Test("random floats of 32 and 64 bits come back", arguments: 0..<8)
    func randomFloats(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<3000 {
            let float = Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &random))
            let double = Double(bitPattern: UInt64.random(in: 0...UInt64.max, using: &random))
            for number in [Double(float), double] where number.isFinite {
                check("\(number)")
                let cbor = Reference.float(number).cbor
                #expect(JSONSlice(try decoded(cbor)[...]).double()?.bitPattern == number.bitPattern)
            }
        }
    }

    @Test("decimal digits become the nearest double", arguments: 0..<8)
    func decimals(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        func digits(_ most: Int) -> String {
            (0..<Int.random(in: 1...most, using: &random)).map { _ in String(Int.random(in: 0...9, using: &random)) }.joined()
        }
        for _ in 0..<4000 {
            let whole = String(Int.random(in: 0...Int.random(in: 0...Int.max, using: &random), using: &random))
            let most = [3, 17, 25, 60].randomElement(using: &random)!
            var text = "\(Bool.random(using: &random) ? "-" : "")\(whole).\(digits(most))"
            if Bool.random(using: &random) {
                text += ["e", "E", "e+", "e-", "E-"].randomElement(using: &random)! + String(Int.random(in: 0...60, using: &random))
            }
            check(text)
        }
    }

    @Test("numbers in the middle between two doubles go to the even one, and those beside it to the nearer", arguments: 0..<8)
    func middles(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<1000 {
            // Odd and of 54 bits: the middle between two doubles; scaled by a power of ten that keeps it so.
            let middle = UInt64.random(in: 0..<1 << 52, using: &random) << 1 | 1 << 53 | 1
            for text in [
                "\(middle).0", "\(middle)e0", "\(middle).\(String(repeating: "0", count: 40))1",
                "\(middle - 1).9\(String(repeating: "9", count: 40))",
            ] {
                check(text)
            }
            // Halves, quarters and so on, written out: exact in decimal as well.
            var fraction = middle
            var decimals = ""
            let places = UInt64(Int.random(in: 1...30, using: &random))
            let whole = middle >> places
            fraction &= 1 << places - 1
            for _ in 0..<places {
                fraction *= 10
                decimals += String(fraction >> places)
                fraction &= 1 << places - 1
            }
            check("\(whole).\(decimals)")
            check("\(whole).\(decimals)0000000001")
            check("-\(whole).\(decimals.dropLast())4999999")
        }
    }

    @Test(
        "numbers at the edges",
        arguments: [
            "0.0", "0e0", "0.000", "1e22", "1e23", "8.5e22", "9007199254740993.0", "9007199254740992.99999999999999999999",
            "2.2250738585072011e-308", "2.2250738585072014e-308", "4.9406564584124654e-324", "2.4703282292062327e-324",
            "2.4703282292062328e-324", "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308",
            "179769313486231580793e289",
            "1e27", "1e28", "1e-27", "1e-28", "9999999999999999999e27", "9999999999999999999e-27", "99999999999999999999.0",
            "18446744073709551616.5", "0.00000000000000000000000000000000000001", "123456789012345678901234567890e-20",
            "6.0221407600000000e+23", "6.62607015e-34", "3.4028235677973366e38", "65519.999", "65520.0", "2.9802322387695312e-8",
            "1.00000000000000011102230246251565404236316680908203125", "1.00000000000000011102230246251565404236316680908203124",
            "1.00000000000000011102230246251565404236316680908203126",
        ])
    func edges(_ text: String) {
        check(text)
        check("-" + text)
    }

    @Test("long digits and long exponents are read in one go")
    func long() {
        check("0." + String(repeating: "3", count: 200_000))
        check(String(repeating: "7", count: 300) + ".5")
        check("0." + String(repeating: "0", count: 100_000) + "1e100000")
        check("1" + String(repeating: "0", count: 100_000) + "e-100000")
        check("1e" + String(repeating: "0", count: 100_000) + "5")
    }
}
