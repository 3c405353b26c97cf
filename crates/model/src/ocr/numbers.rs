//! Finds phone numbers in a line of text: mainland Chinese mobile, landline, 400 and 800 numbers in any punctuation.
//!
//! Pure. It checks the form of a number only; it knows neither how reliably the text was read nor whether the number is unlawful.
//!
//! Source: 电信网编号计划 (2017). Mobile numbers have 11 digits and begin with 13–19. A landline number has a trunk code (010 and 02x of
//! three digits, 03xx to 09xx of four) and a local number that begins with 2–8. 400 and 800 numbers have ten digits.

use std::ops::Range;

use gridwatch_engine::PhoneNumber;

/// A phone number and its position in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NumberMatch {
    /// The digits, without +86.
    pub(super) number: PhoneNumber,
    /// Range of characters (not bytes) from its first digit to its last.
    pub(super) at: Range<usize>,
}

/// A run of digits.
struct Group {
    digits: String,
    at: Range<usize>,
    /// Separator from the previous group; `None` if the two cannot belong to one number: letters, colons, too many characters.
    separator: Option<Separator>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Separator {
    /// Contains a space.
    Spaced,
    /// Only dashes, dots and parentheses.
    Tight,
}

/// Maximum characters between two groups of one number, as in `+86 (0371) - 67890123`.
const MAX_SEPARATOR_LEN: usize = 3;
/// Maximum groups of one number, as in `+86-0371-6789 0123-801`.
const MAX_GROUPS: usize = 5;
/// Maximum digits of an unrelated group that is separated from a number by a space: a house number, or the 24 of 24小时.
const MAX_STRAY_DIGITS: usize = 2;
/// Maximum digits of an extension after a landline number.
const MAX_EXTENSION_DIGITS: usize = 4;

/// All phone numbers in `text`, in order. Only complete numbers count: longer digit strings, such as ids and bank card numbers, contain
/// none.
pub(super) fn find(text: &str) -> Vec<NumberMatch> {
    let groups = digit_groups(text);
    let mut found: Vec<NumberMatch> = Vec::new();
    // One past the last group of the previous number.
    let mut used = 0;
    let mut first = 0;
    while first < groups.len() {
        let Some((number, end)) = longest_number(&groups, first) else {
            first += 1;
            continue;
        };
        if !has_stray_digits_before(&groups, used, first, &number) && !has_stray_digits_after(&groups, end, &number) {
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

fn digit_groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut between: Vec<char> = Vec::new();
    let mut in_group = false;
    for (i, c) in text.chars().enumerate() {
        if !c.is_ascii_digit() {
            in_group = false;
            between.push(c);
            continue;
        }
        match groups.last_mut().filter(|_| in_group) {
            Some(group) => {
                group.digits.push(c);
                group.at.end = i + 1;
            }
            None => {
                let separator = (!groups.is_empty()).then(|| parse_separator(&between)).flatten();
                groups.push(Group {
                    digits: c.into(),
                    at: i..i + 1,
                    separator,
                });
                in_group = true;
            }
        }
        between.clear();
    }
    groups
}

fn parse_separator(between: &[char]) -> Option<Separator> {
    let is_punctuation = |c: &char| matches!(c, ' ' | '.' | '-' | '(' | ')' | '·' | '—' | '－' | '（' | '）');
    if between.len() > MAX_SEPARATOR_LEN || !between.iter().all(is_punctuation) {
        return None;
    }
    Some(if between.contains(&' ') {
        Separator::Spaced
    } else {
        Separator::Tight
    })
}

/// The longest number that begins with the group `first`, and the index after its last group.
fn longest_number(groups: &[Group], first: usize) -> Option<(String, usize)> {
    let joined = groups[first + 1..].iter().take_while(|g| g.separator.is_some()).count();
    let most = (joined + 1).min(MAX_GROUPS);
    (1..=most).rev().find_map(|n| {
        let parts: Vec<&str> = groups[first..first + n].iter().map(|g| g.digits.as_str()).collect();
        Some((parse_number(&parts)?, first + n))
    })
}

/// True if digits before the number show that it is part of something else.
fn has_stray_digits_before(groups: &[Group], used: usize, first: usize, number: &str) -> bool {
    match groups[first].separator {
        Some(separator) if first > used => {
            // A trunk digit before a toll-free number belongs to another country (8-800 …).
            separator == Separator::Tight || groups[first - 1].digits.len() > MAX_STRAY_DIGITS || is_400_or_800(number)
        }
        _ => false,
    }
}

/// True if digits after the number show that it is part of something else.
fn has_stray_digits_after(groups: &[Group], end: usize, number: &str) -> bool {
    let Some(next) = groups.get(end) else { return false };
    let extension = (number.starts_with('0') || is_400_or_800(number)) && next.digits.len() <= MAX_EXTENSION_DIGITS;
    match next.separator {
        None => false,
        Some(Separator::Tight) => !extension,
        Some(Separator::Spaced) => {
            next.digits.len() > MAX_STRAY_DIGITS && !extension && longest_number(groups, end).is_none()
        }
    }
}

/// The number formed by these groups of digits, if their digits and grouping are valid.
fn parse_number(parts: &[&str]) -> Option<String> {
    let all = parts.concat();
    let (parts, digits) = strip_country_code(parts, &all)?;
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    let is_valid = match digits.as_bytes() {
        [b'1', b'3'..=b'9', ..] => digits.len() == 11 && lengths[0] >= 3 && lengths.iter().all(|&n| n >= 2),
        [b'4' | b'8', b'0', b'0', ..] => {
            digits.len() == 10 && matches!(lengths[..], [10] | [3, 7] | [6, 4] | [7, 3] | [3, 3, 4] | [3, 4, 3])
        }
        [b'0', ..] => is_landline(digits, &lengths),
        _ => false,
    };
    is_valid.then(|| digits.to_owned())
}

/// Strips a leading 86 or 0086 if a number of valid length remains. Landlines lose their 0 after a country code; that form is not
/// supported, because it appears on business cards, not on walls.
fn strip_country_code<'a>(parts: &[&'a str], all: &'a str) -> Option<(Vec<&'a str>, &'a str)> {
    let (head, tail) = parts.split_first()?;
    for code in ["0086", "86"] {
        let Some(rest) = head.strip_prefix(code) else { continue };
        // Other digit strings may begin with 86, so a mobile number or a separator must follow.
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

fn is_400_or_800(number: &str) -> bool {
    number.len() == 10 && (number.starts_with("400") || number.starts_with("800"))
}

/// True for a trunk code with a local number; 026 is unassigned.
fn is_landline(digits: &str, lengths: &[usize]) -> bool {
    let code = match digits.as_bytes() {
        [b'0', b'1', b'0', ..] => 3,
        [b'0', b'2', second, ..] if *second != b'6' => 3,
        [b'0', b'3'..=b'9', _, _, ..] => 4,
        _ => return false,
    };
    let local = &digits[code..];
    // All cities with three-digit codes have eight-digit numbers.
    let has_valid_length = local.len() == 8 || (local.len() == 7 && code == 4);
    let has_valid_start = local.starts_with(|c: char| ('2'..='8').contains(&c));
    // The code is a group of its own, or joined with the first part of the local number.
    let is_grouped_validly = match *lengths {
        [_] => true,
        [first, second] => (first == code && second == local.len()) || (first >= code + 3 && second >= 3),
        [first, second, third] => first == code && second >= 3 && third >= 3,
        _ => false,
    };
    has_valid_length && has_valid_start && is_grouped_validly
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        find(text).into_iter().map(|f| f.number.to_string()).collect()
    }

    #[test]
    fn numbers_are_found_in_printed_formats() {
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
    fn similar_digit_strings_are_not_numbers() {
        let cases = [
            "2024-11-22 16:26:42",
            "11-22-2024 16:26:42",
            "2024-11-22 16 26 42 Fri",
            "20241122162642",
            "22.11.2024 162642",
            "CAM 01 02-11-2024 12:00",
            "34020000001320000001", // a camera's GB/T 28181 id
            "410105199001011234",   // a resident identity number
            "6222 0213 8001 3800 138",
            "6222 1380 0138 000",
            "8-800-555-35-35", // toll-free, mobile and landline numbers of the country of the façade data set
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
    fn a_match_reports_its_position_in_the_text() {
        let found = find("电话: +86 138-1234-5678 王");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, 5..21);
    }

    fn numbers() -> impl Strategy<Value = Vec<String>> {
        // Usual groupings.
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
        fn numbers_are_found_with_any_separator_and_context(
            groups in numbers(),
            separator in prop_oneof![Just(" "), Just("-"), Just("."), Just(" - ")],
            before in "[A-Za-z:]{0,5}",
            after in "[A-Za-z:,]{0,5}",
        ) {
            let text = format!("{before}{}{after}", groups.join(separator));
            prop_assert_eq!(read(&text), vec![groups.concat()], "{}", text);
        }

        #[test]
        fn clock_overlays_contain_no_number(
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
            // Without any separator the digits of a clock may form a valid number.
            prop_assume!(!(mark.is_empty() && (between.is_empty() || between.contains(' '))));
            let text = format!("{date}{between}{hour:02}{colon}{minute:02}{colon}{second:02}");
            prop_assert!(read(&text).is_empty(), "{}: {:?}", text, read(&text));
        }

        #[test]
        fn a_match_consists_of_the_digits_at_its_position(text in "[0-9 .()+/:a-z电-]{0,60}") {
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
        fn longer_digit_strings_contain_no_number(digits in "[0-9]{14,30}") {
            prop_assert!(read(&digits).is_empty());
        }
    }
}
