//! The rule that the engine's tests start from. The unit tests include this file, too.

use std::time::Duration;

use gridwatch_engine::{Category, Rule, Scores, Stands, calendar::Hours};

/// A garbage rule with a dwell of one minute.
pub fn rule() -> Rule {
    Rule {
        id: "garbage".into(),
        category: Category {
            code: "0102".into(),
            scheme: "test@1".into(),
            name_zh: "暴露垃圾".into(),
            name_en: "Exposed garbage".into(),
        },
        labels: vec!["garbage".into()],
        day: Scores { start: 0.5, keep: 0.3 },
        night: Scores { start: 0.5, keep: 0.3 },
        dwell: Duration::from_secs(60),
        unidentified_dwell: None,
        seen_n: 3,
        seen_m: 5,
        present_share: 0.6,
        max_move: 0.5,
        max_move_m: None,
        min_area_m2: None,
        min_count: None,
        gather: 0.0,
        appeared: None,
        attended: None,
        second_look: None,
        second_look_is_required: false,
        except_labels: None,
        min_area: 0.0005,
        forget_after: Duration::from_secs(120),
        max_gap: Duration::from_secs(90),
        merge_radius_m: 8.0,
        outside_containers: true,
        beyond: None,
        stands: Stands::Ground,
        except_approved: false,
        hours: Hours::default(),
    }
}
