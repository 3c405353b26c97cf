//! Texts of the review of cases.

use gridwatch_store::ReviewVerdict;

use gridwatch_web::i18n::Phrase;

gridwatch_web::texts! {
    /// Texts of the review of cases.
    pub(crate) struct ReviewTexts {
        title: "案卷复核" / "Review of cases",
        nav: "复核" / "Review",
        queue: "复核范围" / "Cases",
        queue_mine: "我未复核的" / "Not reviewed by me",
        queue_nobody: "无人复核的" / "Not reviewed by anyone",
        queue_disputed: "意见不一的" / "Disputed",
        done: "这个范围内没有待复核的案卷。" / "There is nothing to review here.",
        done_hint: "可换一个复核范围，或稍后再来。" / "Choose another selection, or come back later.",
        restart: "从最新的重新开始" / "Start with the newest again",
        verdict: "您的结论" / "Your verdict",
        is_true: "属实" / "True",
        is_false: "误报" / "False",
        is_duplicate: "重复上报" / "Duplicate",
        is_unsure: "无法判断" / "Unsure",
        next: "跳过" / "Next",
        undo_of: "撤销：{verdict}（{id}）" / "Undo: {verdict} ({id})",
        duplicate_of: "与哪个案卷重复？" / "Which case is it a duplicate of?",
        duplicate_other: "其他案卷号" / "Another case id",
        duplicate_confirm: "确认重复" / "It is a duplicate",
        duplicate_none: "附近没有其他案卷，请填写案卷号。" / "There is no other case nearby; enter the id.",
        duplicate_missing: "请选择或填写与之重复的案卷。" / "Choose or enter the case that it is a duplicate of.",
        duplicate_unknown: "没有这个案卷：{id}" / "There is no such case: {id}",
        duplicate_self: "案卷不能与自己重复。" / "A case cannot be a duplicate of itself.",
        duplicate_cycle: "您已把那个案卷标为本案的重复。" / "You marked that case as a duplicate of this one.",
        keys: "快捷键：t 属实，f 误报，d 重复，u 无法判断，n 跳过，z 撤销" / "Keys: t true, f false, d duplicate, u unsure, n next, z undo",
        reviews: "人工复核" / "Reviews",
        none: "尚无人复核。" / "Nobody has reviewed this case.",
        disputed: "复核意见不一，不作为样本标签。" / "The reviews disagree, so the case is no label.",
        of: "与 {id} 重复" / "of {id}",
        anyone: "本机人员" / "someone on the box",
        program: "程序 {name}" / "program {name}",
        progress: "进度" / "Progress",
        progress_mine: "我已复核 {n} / {all}" / "Reviewed by me: {n} of {all}",
        progress_anyone: "已有复核 {n} / {all}" / "Reviewed by anyone: {n} of {all}",
        progress_disputed: "意见不一 {n}" / "Disputed: {n}",
        agreement: "与平台结论一致 {n} / {all}（{percent} %）" / "Agreement with the platform: {n} of {all} ({percent} %)",
        agreement_none: "还没有同时有复核和平台结论的案卷。" / "No case has both a review and a decision of the platform yet.",
        missed: "复核属实、平台不予立案：{n}" / "Reviewed as true, rejected by the platform: {n}",
        waved: "复核误报、平台已立案：{n}" / "Reviewed as false, accepted by the platform: {n}",
        used_for: "复核结果用于 gridwatch tune 和 ledger export 的样本标签。" / "Reviews are the labels of gridwatch tune and ledger export.",
        review_this: "复核此案" / "Review this case",
    }
}

impl ReviewTexts {
    pub(crate) fn name(&self, verdict: ReviewVerdict) -> Phrase {
        match verdict {
            ReviewVerdict::True => self.is_true,
            ReviewVerdict::False => self.is_false,
            ReviewVerdict::Duplicate => self.is_duplicate,
            ReviewVerdict::Unsure => self.is_unsure,
        }
    }
}
