//! What comes and goes in a street: problems, and what looks like one and is none. A table, and nothing else: a kind is its
//! parts, where and when it comes, how long it stays and when it is lawful.
//!
//! A kind whose category no rule files, or whose labels no rule of that category lists, is left out by whoever reads this.
//!
//! Rates make about half a filed problem per camera and day in all: Santai's 239 cameras file 0.42 each. How problems divide
//! among kinds, and how long things stay, is nowhere published; the values are what streets look like, and each is here.

use super::town::Ground;

/// When things come: a weight for each hour of the day.
pub(super) type Hours = [f64; 24];

/// People are up: more in the evening, when the day's rubbish is carried out.
const WAKING: Hours = [
    0.3, 0.2, 0.1, 0.1, 0.2, 0.5, 1.0, 1.3, 1.2, 1.0, 1.0, 1.1, 1.1, 1.0, 1.0, 1.0, 1.1, 1.3, 1.6, 1.8, 1.8, 1.5, 1.0,
    0.6,
];
/// Breakfast, noon and above all the evening: when a street has customers.
const TRADE: Hours = [
    0.2, 0.1, 0.0, 0.0, 0.1, 0.6, 2.0, 2.0, 1.0, 0.6, 0.8, 1.3, 1.0, 0.5, 0.5, 0.7, 1.2, 2.2, 2.8, 2.5, 2.0, 1.4, 0.8,
    0.4,
];
/// Shops and cafés open.
const OPENING: Hours = [
    0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 2.0, 3.0, 3.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.0,
    0.0,
];

/// How long it stays if nobody removes it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stay {
    /// Half of them less than `median_min` minutes, two thirds within a factor of e^`sigma`.
    About {
        /// Minutes.
        median_min: f64,
        /// Of the logarithm.
        sigma: f64,
    },
    /// Evenly between so many minutes.
    Minutes(f64, f64),
    /// As long as walking across the picture takes.
    Crossing,
}

/// When it comes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Comes {
    /// So many a day at each place of its ground, by the hour.
    PerDay(f64, &'static Hours),
    /// Once in each opening of the collection's hours (the pause of the category's rule), early in them, this often.
    InCollection(f64),
    /// Once in each opening of the permitted ground's hours, this often.
    InMarketHours(f64),
    /// It is there from the beginning to the end.
    Ever,
}

/// When it is no problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lawful {
    /// It is one from its first moment.
    Never,
    /// It never is.
    Always,
    /// Until the collection is over and its grace has passed; it stays until the lorry has come, but for a few that are
    /// forgotten.
    UntilCollected,
    /// While the permitted ground is open; a few stay on.
    InMarketHours,
}

/// One thing of it that a detector finds by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) label: &'static str,
    /// Width and height, metres.
    pub(super) size_m: (f64, f64),
    /// Along the street from the thing's middle, metres.
    pub(super) aside_m: f64,
    /// The box's lower edge above the ground, metres.
    pub(super) up_m: f64,
    /// Share of the time that it is there; it comes and goes for minutes.
    pub(super) there: f64,
}

/// What can come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The category that it is, or seems to be, a problem of.
    pub(super) category: &'static str,
    pub(super) ground: Ground,
    pub(super) comes: Comes,
    pub(super) stays: Stay,
    pub(super) lawful: Lawful,
    /// It begins at half of its size and grows for its first hours.
    pub(super) grows: bool,
    /// Share of those that a crew removed that come back to the same place within days.
    pub(super) returns: f64,
    pub(super) parts: &'static [Part],
}

const fn part(label: &'static str, size_m: (f64, f64), aside_m: f64, up_m: f64, there: f64) -> Part {
    Part {
        label,
        size_m,
        aside_m,
        up_m,
        there,
    }
}

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
/// A seller steps away for one minute in ten; at a third of the time somebody buys.
const SELLER: Part = part("person", (0.55, 1.68), 0.9, 0.0, 0.9);
const BUYER: Part = part("person", (0.55, 1.68), -0.8, 0.0, 0.33);
const TABLE: Part = part("dining table", (1.5, 0.85), 0.0, 0.0, 1.0);
/// A parasol's pole is hidden behind the wares: its box ends above the ground, and its foot lies too far away.
const PARASOL: Part = part("umbrella", (2.1, 1.9), 0.2, 0.4, 1.0);

/// All of them.
pub(super) const KINDS: &[Kind] = &[
    // Problems.
    Kind {
        name: "heap of bags",
        category: GARBAGE,
        ground: Ground::Dump,
        comes: Comes::PerDay(0.13, &WAKING),
        stays: Stay::About {
            median_min: 300.0,
            sigma: 1.0,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.25,
        parts: HEAP,
    },
    Kind {
        name: "litter that grows",
        category: GARBAGE,
        ground: Ground::Dump,
        comes: Comes::PerDay(0.05, &WAKING),
        stays: Stay::About {
            median_min: 420.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: true,
        returns: 0.25,
        parts: LITTER,
    },
    Kind {
        name: "overflowing litter bin",
        category: GARBAGE,
        ground: Ground::Pitch,
        comes: Comes::PerDay(0.03, &WAKING),
        stays: Stay::About {
            median_min: 360.0,
            sigma: 0.7,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.25,
        parts: OVERFLOWING,
    },
    Kind {
        name: "overflowing container",
        category: GARBAGE,
        ground: Ground::Containers,
        comes: Comes::PerDay(0.08, &WAKING),
        stays: Stay::About {
            median_min: 360.0,
            sigma: 0.7,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.25,
        parts: OVERFLOWING,
    },
    Kind {
        name: "wares before the shop's line",
        category: SPILL_OVER,
        ground: Ground::Frontage,
        comes: Comes::PerDay(0.2, &OPENING),
        stays: Stay::About {
            median_min: 180.0,
            sigma: 0.7,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: WARES,
    },
    Kind {
        name: "new sign on a wall",
        category: ADVERT,
        ground: Ground::Wall,
        comes: Comes::PerDay(0.06, &OPENING),
        stays: Stay::About {
            median_min: 1440.0,
            sigma: 0.6,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.1,
        parts: SIGN,
    },
    Kind {
        name: "vendor with a table",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(0.06, &TRADE),
        stays: Stay::About {
            median_min: 45.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: &[TABLE, SELLER, BUYER],
    },
    Kind {
        name: "vendor under a parasol",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(0.04, &TRADE),
        stays: Stay::About {
            median_min: 60.0,
            sigma: 0.8,
        },
        lawful: Lawful::Never,
        grows: false,
        returns: 0.3,
        parts: &[PARASOL, SELLER, BUYER],
    },
    Kind {
        name: "stall with table and parasol",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(0.05, &TRADE),
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
    Kind {
        name: "bags put out for the lorry",
        category: GARBAGE,
        ground: Ground::Kerb,
        comes: Comes::InCollection(0.8),
        stays: Stay::About {
            median_min: 600.0,
            sigma: 0.8,
        },
        lawful: Lawful::UntilCollected,
        grows: false,
        returns: 0.0,
        parts: BAGS,
    },
    Kind {
        name: "stall on permitted ground",
        category: VENDOR,
        ground: Ground::Market,
        comes: Comes::InMarketHours(0.9),
        stays: Stay::Minutes(20.0, 90.0),
        lawful: Lawful::InMarketHours,
        grows: false,
        returns: 0.0,
        parts: &[TABLE, PARASOL, SELLER, BUYER],
    },
    // No problem at all.
    Kind {
        name: "sign with a permit",
        category: ADVERT,
        ground: Ground::Sign,
        comes: Comes::Ever,
        stays: Stay::Minutes(0.0, 0.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: SIGN,
    },
    Kind {
        name: "poster for an hour",
        category: ADVERT,
        ground: Ground::Wall,
        comes: Comes::PerDay(0.1, &OPENING),
        stays: Stay::Minutes(20.0, 90.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: SIGN,
    },
    Kind {
        name: "wares on the shop's own ground",
        category: SPILL_OVER,
        ground: Ground::Shop,
        comes: Comes::PerDay(0.8, &OPENING),
        stays: Stay::About {
            median_min: 300.0,
            sigma: 0.5,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: WARES,
    },
    Kind {
        name: "shop that unloads",
        category: SPILL_OVER,
        ground: Ground::Frontage,
        comes: Comes::PerDay(0.6, &OPENING),
        stays: Stay::Minutes(5.0, 15.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: WARES,
    },
    Kind {
        name: "rubbish that a sweeper takes",
        category: GARBAGE,
        ground: Ground::Dump,
        comes: Comes::PerDay(0.5, &WAKING),
        stays: Stay::Minutes(6.0, 14.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: BAGS,
    },
    Kind {
        name: "bags among the containers",
        category: GARBAGE,
        ground: Ground::Containers,
        comes: Comes::PerDay(1.5, &WAKING),
        stays: Stay::About {
            median_min: 300.0,
            sigma: 0.6,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: BAGS,
    },
    Kind {
        name: "vendor who moves on",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(0.4, &TRADE),
        stays: Stay::Minutes(2.0, 4.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[TABLE, SELLER],
    },
    Kind {
        name: "tables without anybody",
        category: VENDOR,
        ground: Ground::Terrace,
        comes: Comes::PerDay(0.7, &OPENING),
        stays: Stay::About {
            median_min: 120.0,
            sigma: 0.7,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[TABLE],
    },
    Kind {
        name: "umbrella carried past",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(4.0, &WAKING),
        stays: Stay::Crossing,
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[
            part("umbrella", (1.1, 0.9), 0.0, 1.3, 1.0),
            part("person", (0.55, 1.68), 0.0, 0.0, 1.0),
        ],
    },
    Kind {
        name: "queue under umbrellas",
        category: VENDOR,
        ground: Ground::BusStop,
        comes: Comes::PerDay(1.5, &WAKING),
        stays: Stay::Minutes(3.0, 15.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[part("umbrella", (1.1, 2.1), 0.0, 0.0, 1.0), SELLER, BUYER],
    },
    Kind {
        name: "people who wait",
        category: VENDOR,
        ground: Ground::BusStop,
        comes: Comes::PerDay(12.0, &WAKING),
        stays: Stay::Minutes(3.0, 12.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[SELLER, BUYER],
    },
    Kind {
        name: "people who chat",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(3.0, &WAKING),
        stays: Stay::Minutes(3.0, 15.0),
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[SELLER, BUYER],
    },
    Kind {
        name: "parked motorcycle",
        category: VENDOR,
        ground: Ground::Pitch,
        comes: Comes::PerDay(1.0, &WAKING),
        stays: Stay::About {
            median_min: 90.0,
            sigma: 0.8,
        },
        lawful: Lawful::Always,
        grows: false,
        returns: 0.0,
        parts: &[part("motorcycle", (1.7, 1.2), 0.0, 0.0, 1.0)],
    },
];
