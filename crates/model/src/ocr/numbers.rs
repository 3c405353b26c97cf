//! Telephone numbers in a line of text: mainland China's mobile, landline, 400 and 800 numbers, however they are punctuated.
//!
//! Pure. It knows what a number looks like, not whether it is unlawful, nor how well it was read.
//!
//! Sources: 电信网编号计划 (2017), by which 13–19 begin mobile numbers of 11 digits, 0 a trunk code (010 and 02x of three
//! digits, 03xx to 09xx of four) before a local number that begins with 2–8, and 400 and 800 numbers of ten digits.

use std::ops::Range;

use gridwatch_engine::PhoneNumber;

/// A number and the characters that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberMatch {
    /// Its digits, without +86.
    pub number: PhoneNumber,
    /// Which characters of the text (not bytes), from its first digit to its last.
    pub at: Range<usize>,
}

/// Digits without anything between them.
struct Group {
    digits: String,
    at: Range<usize>,
    /// What stands between it and the group before; `None` where that cannot belong to one number: letters, colons, too much.
    joint: Option<Joint>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// A space among it.
    Loose,
    /// Only dashes, dots and brackets.
    Tight,
}

/// `+86 (0371) - 67890123`: more than this many characters between two groups are no punctuation of a number.
const MAX_SEPARATOR_LEN: usize = 3;
/// `+86-0371-6789 0123-801` has five groups, and nobody prints more.
const MAX_GROUPS: usize = 5;
/// Digits that may stand beside a number with a space between: a house number, or what is left of 24小时.
const STRAY: usize = 2;
/// Digits of an extension behind a landline.
const EXTENSION: usize = 4;

/// Every number in `text`, in order. A number counts only as a whole: what has more digits than it should, as an id or a bank
/// card, has none in it.
pub fn find(text: &str) -> Vec<NumberMatch> {
    let groups = groups(text);
    let mut found: Vec<NumberMatch> = Vec::new();
    // One past the last group of the last number.
    let mut used = 0;
    let mut first = 0;
    while first < groups.len() {
        let Some((number, end)) = longest(&groups, first) else {
            first += 1;
            continue;
        };
        if !strays_before(&groups, used, first, &number) && !strays_after(&groups, end, &number) {
            found.push(NumberMatch {
                number: PhoneNumber::from(number),
                at: groups[first].at.start..groups[end - 1].at.end,
            });
        }
        used = end;
        first = end;
    }
    found
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut between: Vec<char> = Vec::new();
    let mut open = false;
    for (i, c) in text.chars().enumerate() {
        if !c.is_ascii_digit() {
            open = false;
            between.push(c);
            continue;
        }
        match groups.last_mut().filter(|_| open) {
            Some(group) => {
                group.digits.push(c);
                group.at.end = i + 1;
            }
            None => {
                let joint = (!groups.is_empty()).then(|| joint(&between)).flatten();
                groups.push(Group {
                    digits: c.into(),
                    at: i..i + 1,
                    joint,
                });
                open = true;
            }
        }
        between.clear();
    }
    groups
}

fn joint(between: &[char]) -> Option<Joint> {
    let punctuation = |c: &char| matches!(c, ' ' | '.' | '-' | '(' | ')' | '·' | '—' | '－' | '（' | '）');
    if between.len() > MAX_SEPARATOR_LEN || !between.iter().all(punctuation) {
        return None;
    }
    Some(if between.contains(&' ') {
        Joint::Loose
    } else {
        Joint::Tight
    })
}

/// The longest number that begins with the group `first`, and one past its last group.
fn longest(groups: &[Group], first: usize) -> Option<(String, usize)> {
    let joined = groups[first + 1..].iter().take_while(|g| g.joint.is_some()).count();
    let most = (joined + 1).min(MAX_GROUPS);
    (1..=most).rev().find_map(|n| {
        let parts: Vec<&str> = groups[first..first + n].iter().map(|g| g.digits.as_str()).collect();
        Some((number(&parts)?, first + n))
    })
}

/// True where digits before the number make it part of something else.
fn strays_before(groups: &[Group], used: usize, first: usize, number: &str) -> bool {
    match groups[first].joint {
        Some(joint) if first > used => {
            // A trunk digit before a toll number is another country's (8-800 …).
            joint == Joint::Tight || groups[first - 1].digits.len() > STRAY || is_toll(number)
        }
        _ => false,
    }
}

fn strays_after(groups: &[Group], end: usize, number: &str) -> bool {
    let Some(next) = groups.get(end) else { return false };
    let extension = (number.starts_with('0') || is_toll(number)) && next.digits.len() <= EXTENSION;
    match next.joint {
        None => false,
        Some(Joint::Tight) => !extension,
        Some(Joint::Loose) => next.digits.len() > STRAY && !extension && longest(groups, end).is_none(),
    }
}

/// The number that these groups of digits are, if they are one and grouped as one.
fn number(parts: &[&str]) -> Option<String> {
    let all = parts.concat();
    let (parts, digits) = without_country(parts, &all)?;
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    let good = match digits.as_bytes() {
        [b'1', b'3'..=b'9', ..] => digits.len() == 11 && lengths[0] >= 3 && lengths.iter().all(|&n| n >= 2),
        [b'4' | b'8', b'0', b'0', ..] => {
            digits.len() == 10 && matches!(lengths[..], [10] | [3, 7] | [6, 4] | [7, 3] | [3, 3, 4] | [3, 4, 3])
        }
        [b'0', ..] => is_landline(digits, &lengths),
        _ => false,
    };
    good.then(|| digits.to_owned())
}

/// Strikes 86 or 0086 from the front, where what is left is as long as a number. Behind it a landline has no 0; it gets it back
/// nowhere: such numbers are printed on business cards, not on walls.
fn without_country<'a>(parts: &[&'a str], all: &'a str) -> Option<(Vec<&'a str>, &'a str)> {
    let (head, tail) = parts.split_first()?;
    for code in ["0086", "86"] {
        let Some(rest) = head.strip_prefix(code) else { continue };
        // 86 is also how 8 digits of something else may begin: a mobile number must follow, or a gap.
        let digits = &all[code.len()..];
        if rest.is_empty() && !tail.is_empty() {
            return Some((tail.to_vec(), digits));
        }
        if digits.len() == 11 && digits.starts_with('1') {
            let parts = [rest].into_iter().chain(tail.iter().copied()).collect();
            return Some((parts, digits));
        }
    }
    Some((parts.to_vec(), all))
}

fn is_toll(number: &str) -> bool {
    number.len() == 10 && (number.starts_with("400") || number.starts_with("800"))
}

/// Trunk code and local number; 026 is nobody's.
fn is_landline(digits: &str, lengths: &[usize]) -> bool {
    let code = match digits.as_bytes() {
        [b'0', b'1', b'0', ..] => 3,
        [b'0', b'2', second, ..] if *second != b'6' => 3,
        [b'0', b'3'..=b'9', _, _, ..] => 4,
        _ => return false,
    };
    let local = &digits[code..];
    // The cities with three-digit codes all have eight digits.
    let long_enough = local.len() == 8 || (local.len() == 7 && code == 4);
    let begins = local.starts_with(|c: char| ('2'..='8').contains(&c));
    // The code ends where a group ends, or it runs on into the local number's first part.
    let grouped = match *lengths {
        [_] => true,
        [first, second] => (first == code && second == local.len()) || (first >= code + 3 && second >= 3),
        [first, second, third] => first == code && second >= 3 && third >= 3,
        _ => false,
    };
    long_enough && begins && grouped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        find(text).into_iter().map(|f| f.number.to_string()).collect()
    }

    #[test]
    fn numbers_are_read_as_they_are_printed() {
        let cases = [
            ("13812345678", "13812345678"),
            ("138 1234 5678", "13812345678"),
            ("138-1234-5678", "13812345678"),
            ("138.1234.5678", "13812345678"),
            ("1381 234 5678", "13812345678"),
            ("138 12345678", "13812345678"),
            ("Tel:1671958 8203", "16719588203"),
            ("+86 13812345678", "13812345678"),
            ("+8613812345678", "13812345678"),
            ("+86)13812345678", "13812345678"),
            ("0086-138-1234-5678", "13812345678"),
            ("(0371)67890123", "037167890123"),
            ("0371-6789 0123", "037167890123"),
            ("03716789 0123", "037167890123"),
            ("0898-6543210", "08986543210"),
            ("010-6543 2109", "01065432109"),
            ("02154321098", "02154321098"),
            ("0371-67890123-801", "037167890123"),
            ("400-123-4567", "4001234567"),
            ("400 1234 567", "4001234567"),
            ("4001-234567", ""),
            ("800-8201234", "8008201234"),
            ("24 13812345678", "13812345678"),
            ("13812345678 13987654321", "13812345678 13987654321"),
            ("13812345678/0371-6789012", "13812345678 03716789012"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).join(" "), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_none() {
        let cases = [
            "2024-11-22 16:26:42",
            "11-22-2024 16:26:42",
            "2024-11-22 16 26 42 Fri",
            "20241122162642",
            "22.11.2024 162642",
            "CAM 01 02-11-2024 12:00",
            "34020000001320000001", // a camera's own GB/T 28181 id
            "410105199001011234",   // an identity number
            "6222 0213 8001 3800 138",
            "6222 1380 0138 000",
            "8-800-555-35-35", // toll, mobile and landline numbers of the country where the façades stand
            "8 800 555 35 35",
            "8 800 555 3535",
            "8 (800) 555-3535",
            "+7 911 123-45-67",
            "8(495)123-45-67",
            "A12345",
            "1380013800",
            "138001380001",
            "0261-2345678",
            "010-1234567",
            "026-54321098",
            "12812345678",
            "5000-8000",
            "13-81-23-45-678",
            "9.90 13.80 138.00",
        ];
        for text in cases {
            assert!(read(text).is_empty(), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn a_number_says_where_in_the_text_it_stands() {
        let found = find("电话: +86 138-1234-5678 王");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, 5..21);
    }

    fn numbers() -> impl Strategy<Value = Vec<String>> {
        // Groups as they are printed.
        prop_oneof![
            ("1[3-9][0-9]", "[0-9]{4}", "[0-9]{4}").prop_map(|(a, b, c)| vec![a, b, c]),
            "1[3-9][0-9]{9}".prop_map(|a| vec![a]),
            ("1[3-9][0-9]{2}", "[0-9]{3}", "[0-9]{4}").prop_map(|(a, b, c)| vec![a, b, c]),
            ("0[3-9][0-9]{2}", "[2-8][0-9]{6,7}").prop_map(|(a, b)| vec![a, b]),
            ("02[0-57-9]|010", "[2-8][0-9]{3}", "[0-9]{4}").prop_map(|(a, b, c)| vec![a, b, c]),
            ("[48]00", "[0-9]{3}", "[0-9]{4}").prop_map(|(a, b, c)| vec![a, b, c]),
            ("[48]00", "[0-9]{7}").prop_map(|(a, b)| vec![a, b]),
        ]
    }

    proptest! {
        #[test]
        fn every_number_is_found_whatever_stands_between_and_beside(
            groups in numbers(),
            joint in prop_oneof![Just(" "), Just("-"), Just("."), Just(" - ")],
            before in "[A-Za-z:]{0,5}",
            after in "[A-Za-z:,]{0,5}",
        ) {
            let text = format!("{before}{}{after}", groups.join(joint));
            prop_assert_eq!(read(&text), vec![groups.concat()], "{}", text);
        }

        #[test]
        fn no_clock_shows_a_number(
            (year, month, day) in (1990..2100, 1..=12, 1..=31),
            (hour, minute, second) in (0..24, 0..60, 0..60),
            date in 0..5, between in prop_oneof![Just(" "), Just("  "), Just("T"), Just("")],
            mark in prop_oneof![Just("-"), Just("."), Just("/"), Just(" "), Just("")],
            colon in prop_oneof![Just(":"), Just("."), Just(" "), Just("")],
        ) {
            let date = match date {
                0 => format!("{year}{mark}{month:02}{mark}{day:02}"),
                1 => format!("{month:02}{mark}{day:02}{mark}{year}"),
                2 => format!("{day:02}{mark}{month:02}{mark}{year}"),
                3 => format!("{}{mark}{month:02}{mark}{day:02}", year % 100),
                _ => format!("{month}{mark}{day}{mark}{year}"),
            };
            // Digits without a mark anywhere are a number's as much as a clock's.
            prop_assume!(!(mark.is_empty() && (between.is_empty() || between.contains(' '))));
            let text = format!("{date}{between}{hour:02}{colon}{minute:02}{colon}{second:02}");
            prop_assert!(read(&text).is_empty(), "{}: {:?}", text, read(&text));
        }

        #[test]
        fn a_number_is_made_of_the_digits_where_it_says_it_stands(text in "[0-9 .()+/:a-z电-]{0,60}") {
            let mut from = 0;
            for found in find(&text) {
                prop_assert!(found.at.start >= from && found.at.end <= text.chars().count());
                from = found.at.end;
                let digits: String = text
                    .chars()
                    .skip(found.at.start)
                    .take(found.at.len())
                    .filter(char::is_ascii_digit)
                    .collect();
                prop_assert!(digits.ends_with(found.number.as_str()), "{} in {}", found.number, digits);
            }
        }

        #[test]
        fn longer_runs_of_digits_hold_no_number(digits in "[0-9]{14,30}") {
            prop_assert!(read(&digits).is_empty());
        }
    }
}
