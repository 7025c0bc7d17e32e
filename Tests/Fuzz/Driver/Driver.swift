import Glibc

/// What libFuzzer calls with each input.
package typealias TestOneInput = @convention(c) (_ bytes: UnsafeRawPointer?, _ count: Int) -> CInt

/// libFuzzer's entry for programs that have a `main` of their own, as a Swift package's executables do.
@_silgen_name("LLVMFuzzerRunDriver")
private func LLVMFuzzerRunDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ testOneInput: TestOneInput
) -> CInt

/// Runs libFuzzer with the arguments of the process.
package func fuzz(_ testOneInput: TestOneInput) -> Never {
    var count = CommandLine.argc
    var arguments = CommandLine.unsafeArgv
    exit(LLVMFuzzerRunDriver(&count, &arguments, testOneInput))
}
