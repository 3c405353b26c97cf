//! Texts of the page of approved signs.

gridwatch_web::texts! {
    /// Texts of the page of approved signs.
    pub(crate) struct SignTexts {
        title: "已批准标牌" / "Approved signs",
        title_of: "{view} 已批准标牌" / "Approved signs of {view}",
        help: "标牌是否合法，画面看不出：这里批准的标牌不上报，其余新出现的按规则上报。请在白天和亮灯后各核对一次。" / "Whether a sign is lawful cannot be seen: those that are approved here are not filed, and others are. Check by day, and once more with the lights on.",
        no_rules: "没有使用已批准标牌的规则（except_approved），在此批准没有作用。" / "No rule has except_approved, so approving signs has no effect.",
        never: "该点位还没有记录过已批准标牌，相关规则在此不上报。没有任何标牌合法时，也请保存一次。" / "Signs were never recorded in this view, so these rules file nothing here. Save once even if none is lawful.",
        recorded: "最近记录：{at}，模型 {model}" / "Last recorded: {at}, with {model}",
        no_look: "最新画面中没有发现标牌；可以手工框选。" / "The newest look found no signs; they can be drawn by hand.",
        saved: "已保存：新批准 {added} 块，取消 {removed} 块。" / "Saved: {added} newly approved, {removed} removed.",
        saved_not_in_force: "已保存，但尚未生效：" / "Saved, but not in force:",
        conflict: "未保存：您编辑期间，此文件已被他人或 gridwatch signs 修改。没有覆盖任何内容；请记下您的修改，重新打开本页。" / "Not saved: while you were editing, somebody else or gridwatch signs changed the file. Nothing was overwritten; note what you changed and open this page anew.",
        reopen: "重新打开" / "Open anew",
        unreadable: "已批准标牌的文件有错误，暂不能在此编辑：" / "The file of the approved signs has faults, so nothing can be edited here:",
        overlay_approved: "已批准标牌" / "approved sign",
        overlay_expired: "批准已过期的标牌" / "sign whose approval has expired",
    }
}
