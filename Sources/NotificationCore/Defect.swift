#if DEFECTS
    /// Mistakes that can be made on purpose, one at a time, to see whether the simulation notices. Only in builds with `DEFECTS`.
    package enum Defect: String, CaseIterable, Sendable {
        case cursorMovesOnRefused
        case resumeOffByOne
        case expiredNotCounted
        case plainPositionInWindow
        case retentionGapNotTold
        case epochGapNotTold
        case conflationLosesLast
        case snapshotIsOld
        case pacedIsLive
        case runSpansOthers
        case pageThroughTooFar
        case idempotencyNotStored
        case receiptsNotStored
        case epochIsKept
        case synchronousOff
        case answerBeforeCommit
        case writerIsKept
        case failedCommitNotTold
        case unsyncedIsTold
        case expiredGapMovesTooFar
        case retentionGapDoesNotMove
        case pastEpochIsTrusted
        case pollGoesOnAtHead
        case drainedIsNotWoken
        case fullStreamIsTaken
        case sharedPageOfAnyShape
        case expiryIsNotCounted

        nonisolated(unsafe) package static var active: Defect?
    }
#endif
