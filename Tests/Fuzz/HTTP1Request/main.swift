import FuzzDriver
import FuzzTargets

@_cdecl("LLVMFuzzerTestOneInput")
func testOneInput(_ bytes: UnsafeRawPointer?, _ count: Int) -> CInt {
    FuzzTarget.http1Request.run(UnsafeRawBufferPointer(start: bytes, count: count))
    return 0
}

fuzz(testOneInput)
