//! What happened to a candidate, and why it was not filed, in words; what a rule requires.

use gridwatch_engine::{NotFiled, Reason};
use gridwatch_ledger::history::{Requirement, candidates::Outcome};

use gridwatch_web::i18n::Phrase;

gridwatch_web::texts! {
    /// Reasons of the engine, and what rules require.
    pub(crate) struct ReasonTexts {
        appeared: "置信度达到起始值，开始跟踪" / "Scored high enough: became a candidate",
        hidden: "多次未检出，不再算作在场" / "Missed so often that it no longer counted as present",
        seen_again: "再次检出，恢复在场" / "Seen again: counts as present",
        blind: "画面不清或没有查看，这段时间不计入停留" / "View not clear, or no look: this time does not count",
        rested: "规则不在生效时段，这段时间不计入停留" / "Rule not active: this time does not count",
        restarted: "程序重启，继续跟踪" / "The daemon restarted and followed it on",
        picture_lost: "首张图片丢失，下次见到时补拍" / "Its first picture was lost; another is taken when it is next seen",
        picture_taken: "首张图片已补拍" / "It has a first picture again",
        confirmed: "停留时长和在场比例达标，上报案卷" / "Met dwell and presence: a case was filed",
        case_over: "所属案卷已结束，可以再次上报" / "The case it belonged to is over: it may become another",
        went_elsewhere: "离开原位置，作为新目标重新跟踪" / "Moved away from where it was judged; there it is a new object",
        replanned: "配置已修改，重新判断" / "The configuration changed: judged again",
        left: "已离开，无须处理" / "Left, and nothing depended on it",
        let_go: "平台长期未答复且现场已空，案卷已撤销" / "Unanswered for long and its place empty: the case was withdrawn",
        score_too_low: "置信度低于起始值" / "Score below the start score",
        not_new: "学习画面时已在原处，不是新出现的目标" / "Not new: it was there when the view was learned, or the view is not learned yet",
        outside_zones: "不在布控区域内，或在排除区域内" / "Outside the watch zones, or inside an excluded one",
        permitted: "在许可区域和许可时段内" / "On permitted ground during permitted hours",
        approved_sign: "已批准的招牌" / "An approved sign",
        no_baseline: "该点位没有已批准招牌的底档" / "The camera has no list of approved signs",
        other_label: "被识别为其他规则的目标" / "Recognised as something that is another rule's",
        too_small: "面积小于规则的最小值" / "Smaller than the rule's minimum",
        left_before_dwell: "停留时长未达标就已离开" / "Left before its dwell was reached",
        seen_too_rarely: "停留够久，但见到的次数太少" / "Stayed long enough, but was seen in too few looks",
        moved: "位移超过规则允许的范围" / "Moved farther than the rule allows",
        unattended: "停留够久，但有人看护的比例不足" / "Stayed, but was not attended often enough",
        doubted: "复看未确认，停留满一次时长后再看" / "A second look did not confirm it; another is taken after another dwell",
        open_case_at_site: "同一处已有未结案卷" / "The same problem has an open case at this place",
        open_elsewhere: "另一盒子在同一处已有未结案卷" / "Another box has an open case of the same problem at this place",
        filed_otherwise: "同一目标已按其他类别上报" / "The same thing is an open case of another category",
        known_otherwise: "平台已有同一问题的其他案卷" / "The platform has the problem under another case number",
        over_daily_cap: "当日上报数已达上限，次日仍在再上报" / "The daily cap is reached: filed the next day if still there",
        left_while_waiting: "等待次日上报期间已离开" / "Left while it waited for the next day",
        case_reopened: "结案后很快复发，已申请重新立案" / "Recurred soon after its case was closed: the platform is asked to reopen it",
        rejected_before: "平台此前对同一目标不予立案" / "The platform rejected the same object at this place before",
        outside_grid: "位置不在任何单元网格内" / "Its place lies in no cell of the grid",
        evidence_failed: "证据图片生成失败" / "Its evidence could not be made",
        blind_too_long: "画面长时间不可用，跟踪已失效" / "The camera was blind for too long: the track is stale",
        reconfigured: "规则或点位已从配置中移除" / "The rule or camera is no longer configured",
        reaimed: "摄像机已转向，画面不再是原处" / "The camera was re-aimed and shows another place",
        filed: "已上报" / "Filed",
        ongoing: "仍在跟踪" / "Still followed",
        need_start_score: "置信度 {has}，起始值 {needs}" / "score {has}, start score {needs}",
        need_dwell: "停留 {has}，要求 {needs}" / "dwell {has} of {needs}",
        need_seen_n: "最近见到 {has} 次，要求 {needs} 次" / "seen {has} times of late, {needs} required",
        need_present_share: "在场比例 {has}，要求 {needs}" / "present in {has} of the looks, {needs} required",
        need_attended_share: "有人看护 {has}，要求 {needs}" / "attended in {has} of the sightings, {needs} required",
    }
}

/// The text of each variant, and the list of all variants: one that is new in the engine does not compile without its text.
macro_rules! reasons {
    ($name:ident($kind:ident), $(#[$meta:meta])* $list:ident: $($variant:ident => $key:ident,)*; $($rest:pat => $value:expr,)*) => {
        impl ReasonTexts {
            pub(crate) fn $name(&self, reason: $kind) -> Phrase {
                match reason {
                    $($kind::$variant => self.$key,)*
                    $($rest => $value(self),)*
                }
            }
        }

        /// Every variant.
        $(#[$meta])*
        pub(crate) const $list: &[$kind] = &[$($kind::$variant,)*];
    };
}

reasons! {
    not_filed(NotFiled), NOT_FILED:
        ScoreTooLow => score_too_low,
        NotNew => not_new,
        OutsideZones => outside_zones,
        Permitted => permitted,
        ApprovedSign => approved_sign,
        NoBaseline => no_baseline,
        OtherLabel => other_label,
        TooSmall => too_small,
        LeftBeforeDwell => left_before_dwell,
        SeenTooRarely => seen_too_rarely,
        Moved => moved,
        Unattended => unattended,
        Doubted => doubted,
        OpenCaseAtSite => open_case_at_site,
        OpenElsewhere => open_elsewhere,
        FiledOtherwise => filed_otherwise,
        KnownOtherwise => known_otherwise,
        OverDailyCap => over_daily_cap,
        LeftWhileWaiting => left_while_waiting,
        CaseReopened => case_reopened,
        RejectedBefore => rejected_before,
        OutsideGrid => outside_grid,
        EvidenceFailed => evidence_failed,
        BlindTooLong => blind_too_long,
        Reconfigured => reconfigured,
        Reaimed => reaimed,
    ;
}

reasons! {
    event(Reason), #[cfg(test)] EVENTS:
        Appeared => appeared,
        Hidden => hidden,
        SeenAgain => seen_again,
        Blind => blind,
        Rested => rested,
        Restarted => restarted,
        PictureLost => picture_lost,
        PictureTaken => picture_taken,
        Confirmed => confirmed,
        CaseOver => case_over,
        WentElsewhere => went_elsewhere,
        Replanned => replanned,
        Left => left,
        LetGo => let_go,
    ;
    Reason::NotFiled(why) => |texts: &ReasonTexts| texts.not_filed(why),
}

impl ReasonTexts {
    pub(crate) fn outcome(&self, outcome: Outcome) -> Phrase {
        match outcome {
            Outcome::Filed => self.filed,
            Outcome::Ongoing => self.ongoing,
            Outcome::NotFiled(reason) => self.not_filed(reason),
        }
    }

    /// With `{has}` and `{needs}`.
    pub(crate) fn requirement(&self, what: Requirement) -> Phrase {
        match what {
            Requirement::StartScore => self.need_start_score,
            Requirement::Dwell => self.need_dwell,
            Requirement::SeenN => self.need_seen_n,
            Requirement::PresentShare => self.need_present_share,
            Requirement::AttendedShare => self.need_attended_share,
        }
    }
}

/// The reason with this key.
pub(crate) fn not_filed_of(key: &str) -> Option<NotFiled> {
    NOT_FILED.iter().copied().find(|reason| reason.as_str() == key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_of_the_engine_has_a_text_of_its_own_in_both_languages() {
        for texts in [ReasonTexts::ZH, ReasonTexts::EN] {
            let not_filed = NOT_FILED.iter().map(|reason| texts.event(Reason::NotFiled(*reason)).0);
            let events = EVENTS.iter().map(|reason| texts.event(*reason).0);
            let all: Vec<&str> = not_filed.chain(events).collect();
            let distinct: BTreeSet<&&str> = all.iter().collect();
            assert_eq!(distinct.len(), NOT_FILED.len() + EVENTS.len(), "{all:?}");
            assert!(all.iter().all(|text| !text.trim().is_empty()));
        }
        let keys: BTreeSet<&str> = NOT_FILED.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(keys.len(), NOT_FILED.len());
        for reason in NOT_FILED {
            assert_eq!(not_filed_of(reason.as_str()), Some(*reason));
        }
        assert_eq!(not_filed_of("because"), None);
    }
}
