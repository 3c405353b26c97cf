//! The kinds of objects in a street: problems, and look-alikes that are not. A pure table: a kind's parts, where and when it
//! appears, how long it stays, and when it is lawful.
//!
//! A kind is left out if no rule covers its category, or no rule of that category lists its labels. What no network has a label for
//! has a part [`UNLABELLED`]: only the change map finds it, for rules that list that label. It is a problem for the others, too.
//!
//! The rates add up to about half a filed problem per camera and day: Santai's 239 cameras file 0.42 each. How problems divide
//! among kinds, and how long objects stay, is not published; the values here are plausible for a street.

use super::town::Ground;

/// Arrival weights by hour of the day.
pub(super) type Hours = [f64; 24];

/// Waking hours: most in the evening, when rubbish is carried out.
const WAKING: Hours = [
    0.3, 0.2, 0.1, 0.1, 0.2, 0.5, 1.0, 1.3, 1.2, 1.0, 1.0, 1.1, 1.1, 1.0, 1.0, 1.0, 1.1, 1.3, 1.6, 1.8, 1.8, 1.5, 1.0,
    0.6,
];
/// When a street has customers: breakfast, noon and above all the evening.
const TRADE: Hours = [
    0.2, 0.1, 0.0, 0.0, 0.1, 0.6, 2.0, 2.0, 1.0, 0.6, 0.8, 1.3, 1.0, 0.5, 0.5, 0.7, 1.2, 2.2, 2.8, 2.5, 2.0, 1.4, 0.8,
    0.4,
];
/// When shops and cafés open.
const OPENING: Hours = [
    0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 2.0, 3.0, 3.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.0,
    0.0,
];

/// How long an object stays if it is not removed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stay {
    /// Log-normal.
    About {
        /// Median in minutes.
        median_min: f64,
        /// Sigma of the logarithm.
        sigma: f64,
    },
    /// Uniform between two values in minutes.
    Minutes(f64, f64),
    /// The time to walk across the picture.
    Crossing,
}

/// When objects of a kind appear.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrivals {
    /// Mean number per day at each place of its ground, with the hourly weights.
    PerDay(f64, &'static Hours),
    /// With this probability in each collection window (the pause of the category's rule), early in it.
    InCollection(f64),
    /// With this probability in each opening of the permitted pitches.
    InMarketHours(f64),
    /// Present during the whole simulation.
    Ever,
}

/// When an object is lawful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lawful {
    /// A problem from its first moment.
    Never,
    /// Never a problem.
    Always,
    /// Until the collection window and its grace period are over. The lorry takes it within the window, except for a few that are
    /// forgotten.
    UntilCollected,
    /// While the permitted pitches are open; a few stay on.
    InMarketHours,
}

/// A part of an object that the detector finds separately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) label: &'static str,
    /// Width and height, metres.
    pub(super) size_m: (f64, f64),
    /// Offset along the street from the object's centre, metres.
    pub(super) aside_m: f64,
    /// Height of the box's lower edge above the ground, metres.
    pub(super) up_m: f64,
    /// Fraction of the time that it is present; it comes and goes for minutes.
    pub(super) present: f64,
}

/// A kind of object.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectKind {
    pub(super) name: &'static str,
    /// The category that it is, or resembles, a problem of.
    pub(super) category: &'static str,
    pub(super) ground: Ground,
    pub(super) arrivals: Arrivals,
    pub(super) stays: Stay,
    pub(super) lawful: Lawful,
    /// It starts at about half its size and grows for its first hours.
    pub(super) grows: bool,
    /// Fraction of the removed objects that come back to the same place within days.
    pub(super) returns: f64,
    pub(super) parts: &'static [Part],
}

const fn part(label: &'static str, size_m: (f64, f64), aside_m: f64, up_m: f64, present: f64) -> Part {
    Part {
        label,
        size_m,
        aside_m,
        up_m,
        present,
    }
}

/// The label of parts that no network has a label for, as the engine calls what is new and unknown.
pub(super) const UNLABELLED: &str = "object";

const GARBAGE: &str = "0102";
const VENDOR: &str = "0501";
const SPILL_OVER: &str = "0504";
const ADVERT: &str = "0202";

/// A sign on a wall, approved or not.
pub(super) const SIGN: &[Part] = &[part("sign", (2.0, 0.8), 0.0, 2.5, 1.0)];
const WARES: &[Part] = &[
    part("dining table", (1.6, 0.85), 0.0, 0.0, 1.0),
    part("chair", (0.6, 0.9), 1.3, 0.0, 1.0),
];
const HEAP: &[Part] = &[part("garbage", (1.3, 0.8), 0.0, 0.0, 1.0)];
const LITTER: &[Part] = &[part("garbage", (1.5, 0.7), 0.0, 0.0, 1.0)];
const BAGS: &[Part] = &[part("garbage", (1.1, 0.7), 0.0, 0.0, 1.0)];
const OVERFLOWING: &[Part] = &[part("overflow", (0.9, 1.2), 0.0, 0.0, 1.0)];
/// A seller is away for one minute in ten; there is a buyer a third of the time.
const SELLER: Part = part("person", (0.55, 1.68), 0.9, 0.0, 0.9);
const BUYER: Part = part("person", (0.55, 1.68), -0.8, 0.0, 0.33);
const TABLE: Part = part("dining table", (1.5, 0.85), 0.0, 0.0, 1.0);
/// A parasol's pole is hidden behind the wares: its box ends above the ground, so its ground point is too far away.
const PARASOL: Part = part("umbrella", (2.1, 1.9), 0.2, 0.4, 1.0);

/// Goods laid out on a cloth: wide and flat, seen from a pole.
const CLOTH: Part = part(UNLABELLED, (1.8, 0.6), 0.0, 0.0, 1.0);

/// All kinds.
pub(super) const KINDS: &[ObjectKind] = &[
    // Problems.
    ObjectKind {
        name: "heap of bags",
        category: GARBAGE,
        ground: Ground::Dump,
        arrivals: Arrivals::PerDay(0.13, &WAKING),
        stays: Stay::About {
            median_min: 300.0,
            sigma: 1.0,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.25,
        parts: HEAP,
    },
    ObjectKind {
        name: "litter that grows",
        category: GARBAGE,
        ground: Ground::Dump,
        arrivals: Arrivals::PerDay(0.05, &WAKING),
        stays: Stay::About {
            median_min: 420.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: true,
        returns: 0.25,
        parts: LITTER,
    },
    ObjectKind {
        name: "overflowing litter bin",
        category: GARBAGE,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.03, &WAKING),
        stays: Stay::About {
            median_min: 360.0,
            sigma: 0.7,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.25,
        parts: OVERFLOWING,
    },
    ObjectKind {
        name: "overflowing container",
        category: GARBAGE,
        ground: Ground::Containers,
        arrivals: Arrivals::PerDay(0.08, &WAKING),
        stays: Stay::About {
            median_min: 360.0,
            sigma: 0.7,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.25,
        parts: OVERFLOWING,
    },
    ObjectKind {
        name: "wares before the shop's line",
        category: SPILL_OVER,
        ground: Ground::Frontage,
        arrivals: Arrivals::PerDay(0.2, &OPENING),
        stays: Stay::About {
            median_min: 180.0,
            sigma: 0.7,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: WARES,
    },
    ObjectKind {
        name: "new sign on a wall",
        category: ADVERT,
        ground: Ground::Wall,
        arrivals: Arrivals::PerDay(0.06, &OPENING),
        stays: Stay::About {
            median_min: 1440.0,
            sigma: 0.6,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.1,
        parts: SIGN,
    },
    ObjectKind {
        name: "vendor with a table",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.06, &TRADE),
        stays: Stay::About {
            median_min: 45.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: &[TABLE, SELLER, BUYER],
    },
    ObjectKind {
        name: "vendor under a parasol",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.04, &TRADE),
        stays: Stay::About {
            median_min: 60.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: &[PARASOL, SELLER, BUYER],
    },
    ObjectKind {
        name: "stall with table and parasol",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.05, &TRADE),
        stays: Stay::About {
            median_min: 75.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: &[TABLE, PARASOL, SELLER, BUYER],
    },
    // Lawful until they are not.
    ObjectKind {
        name: "bags put out for the lorry",
        category: GARBAGE,
        ground: Ground::Kerb,
        arrivals: Arrivals::InCollection(0.8),
        stays: Stay::About {
            median_min: 600.0,
            sigma: 0.8,
        },
        lawful: Lawful::UntilCollected,
        grows: false,
        returns: 0.0,
        parts: BAGS,
    },
    ObjectKind {
        name: "stall on permitted ground",
        category: VENDOR,
        ground: Ground::Market,
        arrivals: Arrivals::InMarketHours(0.9),
        stays: Stay::Minutes(20.0, 90.0),
        lawful: Lawful::InMarketHours,
        grows: false,
        returns: 0.0,
        parts: &[TABLE, PARASOL, SELLER, BUYER],
    },
    // Never a problem.
    ObjectKind {
        name: "sign with a permit",
        category: ADVERT,
        ground: Ground::Sign,
        arrivals: Arrivals::Ever,
        stays: Stay::Minutes(0.0, 0.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: SIGN,
    },
    ObjectKind {
        name: "poster for an hour",
        category: ADVERT,
        ground: Ground::Wall,
        arrivals: Arrivals::PerDay(0.1, &OPENING),
        stays: Stay::Minutes(20.0, 90.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: SIGN,
    },
    ObjectKind {
        name: "wares on the shop's own ground",
        category: SPILL_OVER,
        ground: Ground::Shop,
        arrivals: Arrivals::PerDay(0.8, &OPENING),
        stays: Stay::About {
            median_min: 300.0,
            sigma: 0.5,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: WARES,
    },
    ObjectKind {
        name: "shop that unloads",
        category: SPILL_OVER,
        ground: Ground::Frontage,
        arrivals: Arrivals::PerDay(0.6, &OPENING),
        stays: Stay::Minutes(5.0, 15.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: WARES,
    },
    ObjectKind {
        name: "rubbish that a sweeper takes",
        category: GARBAGE,
        ground: Ground::Dump,
        arrivals: Arrivals::PerDay(0.5, &WAKING),
        stays: Stay::Minutes(6.0, 14.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: BAGS,
    },
    ObjectKind {
        name: "bags among the containers",
        category: GARBAGE,
        ground: Ground::Containers,
        arrivals: Arrivals::PerDay(1.5, &WAKING),
        stays: Stay::About {
            median_min: 300.0,
            sigma: 0.6,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: BAGS,
    },
    ObjectKind {
        name: "vendor who moves on",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.4, &TRADE),
        stays: Stay::Minutes(2.0, 4.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[TABLE, SELLER],
    },
    ObjectKind {
        name: "tables without anybody",
        category: VENDOR,
        ground: Ground::Terrace,
        arrivals: Arrivals::PerDay(0.7, &OPENING),
        stays: Stay::About {
            median_min: 120.0,
            sigma: 0.7,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[TABLE],
    },
    ObjectKind {
        name: "umbrella carried past",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(4.0, &WAKING),
        stays: Stay::Crossing,
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[
            part("umbrella", (1.1, 0.9), 0.0, 1.3, 1.0),
            part("person", (0.55, 1.68), 0.0, 0.0, 1.0),
        ],
    },
    ObjectKind {
        name: "queue under umbrellas",
        category: VENDOR,
        ground: Ground::BusStop,
        arrivals: Arrivals::PerDay(1.5, &WAKING),
        stays: Stay::Minutes(3.0, 15.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[part("umbrella", (1.1, 2.1), 0.0, 0.0, 1.0), SELLER, BUYER],
    },
    ObjectKind {
        name: "people who wait",
        category: VENDOR,
        ground: Ground::BusStop,
        arrivals: Arrivals::PerDay(12.0, &WAKING),
        stays: Stay::Minutes(3.0, 12.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[SELLER, BUYER],
    },
    ObjectKind {
        name: "people who chat",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(3.0, &WAKING),
        stays: Stay::Minutes(3.0, 15.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[SELLER, BUYER],
    },
    ObjectKind {
        name: "parked motorcycle",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(1.0, &WAKING),
        stays: Stay::About {
            median_min: 90.0,
            sigma: 0.8,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[part("motorcycle", (1.7, 1.2), 0.0, 0.0, 1.0)],
    },
    // What no network has a label for. Last, because the arrivals of a kind are drawn by its position.
    ObjectKind {
        name: "vendor with goods on a cloth",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.05, &TRADE),
        stays: Stay::About {
            median_min: 50.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: &[CLOTH, SELLER, BUYER],
    },
    ObjectKind {
        name: "crates set down by a carrier",
        category: VENDOR,
        ground: Ground::Pitch,
        arrivals: Arrivals::PerDay(0.1, &WAKING),
        stays: Stay::About {
            median_min: 2.5,
            sigma: 0.5,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[part(UNLABELLED, (1.2, 0.9), 0.0, 0.0, 1.0), SELLER],
    },
    ObjectKind {
        name: "things left standing",
        category: VENDOR,
        ground: Ground::Kerb,
        arrivals: Arrivals::PerDay(0.3, &WAKING),
        stays: Stay::About {
            median_min: 40.0,
            sigma: 1.0,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[part(UNLABELLED, (0.9, 0.9), 0.0, 0.0, 1.0)],
    },
];
