//! A checked rule, as the engine takes it.

use crate::raw;
use gridwatch_engine as engine;
use gridwatch_engine::{
    Appeared, Attended, Beyond, Category, ExceptLabels, Label, RuleId, Scores, Stands, calendar::Hours,
};
use gridwatch_model::ocr::second_look::TextNeeded;

pub(super) fn compile(raw: raw::Rule, category: Category, hours: Hours) -> engine::Rule {
    let day = Scores {
        start: raw.start_score,
        keep: raw.keep_score,
    };
    let new_keep = raw.new_keep_score;
    let new_start = raw.new_start_score.or(new_keep).unwrap_or(raw.keep_score);
    let appeared = match raw.appeared {
        raw::Appeared::Ignored => None,
        raw::Appeared::Required => Some(Appeared {
            new_start,
            new_keep,
            old_start: None,
        }),
        raw::Appeared::Preferred => Some(Appeared {
            new_start,
            new_keep,
            old_start: Some(raw.old_start_score.unwrap_or((raw.start_score + 1.0) / 2.0)),
        }),
    };
    engine::Rule {
        id: RuleId::from(raw.id),
        category,
        labels: raw.labels.into_iter().map(Label::from).collect(),
        day,
        night: raw.night.map_or(day, |n| Scores {
            start: n.start_score,
            keep: n.keep_score,
        }),
        dwell: raw.dwell.0,
        unidentified_dwell: raw.unidentified_dwell.map(|d| d.0),
        seen_n: raw.seen_n,
        seen_m: raw.seen_m,
        present_share: raw.present_share,
        max_move: raw.max_move,
        max_move_m: raw.max_move_m,
        min_area: raw.min_area,
        min_area_m2: raw.min_area_m2,
        min_count: raw.min_count,
        gather: raw.gather,
        appeared,
        attended: raw.attended.map(|a| Attended {
            labels: a.by.into_iter().map(Label::from).collect(),
            within: a.within,
            share: a.share,
            min_size: a.min_size,
        }),
        second_look_is_required: (raw.second_look.as_ref().and_then(|s| s.text)).is_some_and(|t| t != TextNeeded::Any),
        second_look: raw.second_look.map(|s| s.score),
        except_labels: raw.except_labels.map(|e| ExceptLabels {
            labels: e.labels.into_iter().map(Label::from).collect(),
            score: e.score,
        }),
        forget_after: raw.forget_after.0,
        max_gap: raw.max_gap.0,
        merge_radius_m: raw.merge_radius_m,
        outside_containers: raw.outside_containers,
        beyond: raw.beyond.map(|raw::Beyond::Shop| Beyond::Shop),
        stands: match raw.stands {
            raw::Stands::Ground => Stands::Ground,
            raw::Stands::Wall => Stands::Wall,
        },
        except_approved: raw.except_approved,
        hours,
    }
}
