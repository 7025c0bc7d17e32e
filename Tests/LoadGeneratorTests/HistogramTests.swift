import LoadGenerator
import Testing

@Suite struct HistogramTests {
    @Test("an empty histogram has zeros")
    func empty() {
        let histogram = Histogram()
        #expect(histogram.count == 0)
        #expect(histogram.quantile(0.5) == 0)
        #expect(histogram.maximum == 0)
        #expect(histogram.mean == 0)
    }

    @Test("small values are exact")
    func exact() {
        var histogram = Histogram()
        for value in 0..<256 { histogram.record(Int64(value)) }
        #expect(histogram.quantile(0) == 0)
        #expect(histogram.quantile(0.5) == 127)
        #expect(histogram.quantile(1) == 255)
        #expect(histogram.mean == 127.5)
    }

    @Test(
        "quantiles of any size are within 1 % of the sorted list's, and not below",
        arguments: [1, 1000, 1_000_000, 1_000_000_000] as [Int64])
    func close(scale: Int64) {
        var histogram = Histogram()
        var values: [Int64] = []
        var state: UInt64 = 7
        for _ in 0..<10_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let value = Int64(state >> 50) * scale + Int64(state >> 40 & 63)
            values.append(value)
            histogram.record(value)
        }
        values.sort()
        for fraction in [0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1] {
            let exact = values[max(0, Int((fraction * 10_000).rounded(.up)) - 1)]
            let found = histogram.quantile(fraction)
            #expect(found >= exact)
            #expect(Double(found) <= Double(exact) * 1.01 + 1)
        }
        #expect(histogram.maximum == values.last)
        #expect(histogram.minimum == values.first)
        #expect(histogram.count == 10_000)
    }

    @Test("two histograms added are one of all values")
    func sum() {
        var left = Histogram()
        var right = Histogram()
        var whole = Histogram()
        for value in stride(from: Int64(3), to: 5_000_000, by: 4999) {
            if value % 2 == 0 { left.record(value) } else { right.record(value) }
            whole.record(value)
        }
        left.add(right)
        left.add(Histogram())
        #expect(left.count == whole.count)
        #expect((left.minimum, left.maximum) == (whole.minimum, whole.maximum))
        for fraction in [0, 0.25, 0.5, 0.75, 1] { #expect(left.quantile(fraction) == whole.quantile(fraction)) }
    }

    @Test("values outside the range are kept at its ends")
    func range() {
        var histogram = Histogram()
        histogram.record(-5)
        histogram.record(.max)
        #expect(histogram.quantile(0.5) == 0)
        #expect(histogram.maximum == .max)
        #expect(histogram.quantile(1) > 1 << 43)
    }
}
