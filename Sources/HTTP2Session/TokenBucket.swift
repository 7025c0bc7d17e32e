/// Allows `burst` events at once and `perSecond` in the long run. Time comes in as an argument.
struct TokenBucket {
    private var tokens: Int32
    private var updatedMilliseconds: Int64 = .min

    init(burst: Int32) {
        tokens = burst
    }

    /// Takes one token; false when there is none.
    mutating func take(burst: Int32, perSecond: Int32, nowMilliseconds: Int64) -> Bool {
        if updatedMilliseconds == .min {
            updatedMilliseconds = nowMilliseconds
        } else if nowMilliseconds > updatedMilliseconds, perSecond > 0 {
            // A day refills any bucket; the cap keeps the product below in range.
            let elapsed = min(nowMilliseconds &- updatedMilliseconds, 86_400_000)
            let gained = elapsed * Int64(perSecond) / 1000
            if Int64(tokens) + gained >= Int64(burst) {
                tokens = burst
                updatedMilliseconds = nowMilliseconds
            } else if gained > 0 {
                tokens += Int32(gained)
                updatedMilliseconds += gained * 1000 / Int64(perSecond)
            }
        }
        guard tokens > 0 else { return false }
        tokens -= 1
        return true
    }
}
