//! Masks what identifies a person in a line of text: identity numbers and other long digit strings, and personal names. The phone
//! numbers and messenger ids of adverts stay, because they are what the city acts on.
//!
//! Pure. Masking errs on the side of masking: a word that is masked by mistake costs a clerk a word.
//!
//! Sources: GB 11643-1999 (identity numbers of 18 digits, the last of which may be X; of 15 before 1999). Surnames: the hundred most
//! common ones in the report of the Ministry of Public Security for 2020 (85 % of the population), and the usual two-character ones.

use std::ops::Range;

use super::{ctc::RecognisedChar, numbers};

/// What a masked character is replaced with.
const MASK: char = '*';

/// Fewest digits of a string that is masked. Identity numbers have 15 or 18, bank cards 16 to 19, and no telephone number more than
/// 14 with its country code. The check digit is not asked for: one misread digit would reveal the other seventeen.
const MIN_ID_DIGITS: usize = 15;

const SURNAMES: &str = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈\
                        钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤";
const LONG_SURNAMES: [&str; 10] = [
    "欧阳", "司马", "上官", "诸葛", "夏侯", "皇甫", "尉迟", "公孙", "慕容", "司徒",
];

/// Words before a name.
const BEFORE_NAMES: [&str; 12] = [
    "联系人",
    "负责人",
    "姓名",
    "户名",
    "收款人",
    "借款人",
    "欠款人",
    "经办人",
    "经纪人",
    "法人代表",
    "失信人",
    "身份证",
];
/// Titles after a name ...
const TITLES: [&str; 17] = [
    "先生",
    "女士",
    "小姐",
    "师傅",
    "经理",
    "老师",
    "医生",
    "律师",
    "主任",
    "老板",
    "阿姨",
    "教练",
    "大夫",
    "店长",
    "工程师",
    "大哥",
    "大姐",
];
/// ... and titles of one character, which are parts of many other words.
const SHORT_TITLES: [char; 5] = ['总', '哥', '姐', '叔', '工'];

/// Words of adverts that begin with a surname and stand beside numbers.
const NO_NAMES: [&str; 30] = [
    "高价", "高薪", "高新", "高清", "金融", "金额", "金店", "白天", "方便", "安装", "万能", "万元", "任何", "马桶",
    "马上", "石材", "水电", "常年", "江湖", "龙头", "向前", "汤池", "田园", "黄金", "程序", "毛坯", "陶瓷", "严选",
    "钱款", "夏季",
];

/// Masks personal data in a text.
pub(super) fn mask(text: &mut [RecognisedChar]) {
    let chars: Vec<char> = text.iter().map(|c| c.char).collect();
    for (c, is_masked) in text.iter_mut().zip(masked(&chars)) {
        if is_masked {
            c.char = MASK;
        }
    }
}

/// Which characters of `text` must be masked.
fn masked(text: &[char]) -> Vec<bool> {
    let mut masked = vec![false; text.len()];
    let line: String = text.iter().collect();
    let numbers: Vec<Range<usize>> = numbers::find(&line).into_iter().map(|n| n.at).collect();
    for digits in digit_strings(text, &numbers) {
        let count = text[digits.clone()].iter().filter(|c| is_digit(**c)).count();
        if count >= MIN_ID_DIGITS {
            masked[digits].fill(true);
        }
    }
    for run in han_runs(text) {
        for name in names_in(text, &run, &numbers) {
            masked[name].fill(true);
        }
    }
    masked
}

/// A digit, or a letter that is read for one.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, 'O' | 'o' | 'l' | 'I' | 'X' | 'x')
}

/// Runs of digits outside phone numbers, with at most one space or dash between two of them.
fn digit_strings(text: &[char], numbers: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut strings: Vec<Range<usize>> = Vec::new();
    for (i, c) in text.iter().enumerate() {
        if !is_digit(*c) || numbers.iter().any(|n| n.contains(&i)) {
            continue;
        }
        match strings.last_mut() {
            Some(last) if last.end == i || (last.end + 1 == i && matches!(text[last.end], ' ' | '-' | '.')) => {
                last.end = i + 1;
            }
            _ => strings.push(i..i + 1),
        }
    }
    strings
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}')
}

fn han_runs(text: &[char]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, _) in text.iter().enumerate().filter(|(_, c)| is_han(**c)) {
        match runs.last_mut() {
            Some(last) if last.end == i => last.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}

/// Length of the surname that `text` begins with.
fn surname(text: &[char]) -> Option<usize> {
    match text {
        [a, b, ..] if LONG_SURNAMES.iter().any(|s| s.chars().eq([*a, *b])) => Some(2),
        [a, ..] if SURNAMES.contains(*a) => Some(1),
        _ => None,
    }
}

fn starts_with(text: &[char], word: &str) -> Option<usize> {
    let length = word.chars().count();
    (text.len() >= length && word.chars().eq(text[..length].iter().copied())).then_some(length)
}

/// The names in a run of Chinese characters.
fn names_in(text: &[char], run: &Range<usize>, numbers: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut names = Vec::new();
    for start in run.clone() {
        let rest = &text[start..run.end];
        names.extend(titled_name(rest, start == run.start).map(|length| start..start + length));
        if let Some(word) = BEFORE_NAMES.iter().find_map(|w| starts_with(rest, w)) {
            names.extend(name_after(text, start + word));
        }
    }
    names.extend(name_beside_number(text, run, numbers));
    names
}

/// Length of the name before a title: `张` of 张先生, `张小明` of 张小明先生.
fn titled_name(rest: &[char], is_whole_word: bool) -> Option<usize> {
    let surname = surname(rest)?;
    (surname..=surname + 2).find(|length| {
        let title = rest.get(*length..).unwrap_or_default();
        let has_long_title = TITLES.iter().any(|t| starts_with(title, t).is_some());
        let is_short_title =
            is_whole_word && *length == surname && title.len() == 1 && SHORT_TITLES.contains(&title[0]);
        has_long_title || is_short_title
    })
}

/// The name after a word such as 联系人, which a colon and spaces may follow.
fn name_after(text: &[char], from: usize) -> Option<Range<usize>> {
    let start = (from..text.len()).find(|i| !matches!(text[*i], ' ' | ':' | '.' | '-' | '_'))?;
    let length = text[start..].iter().take_while(|c| is_han(**c)).count();
    if let Some(name) = titled_name(&text[start..start + length], false) {
        return Some(start..start + name);
    }
    let name = match (surname(&text[start..]), length) {
        (_, 0) => return None,
        // Short enough to be nothing but a name, with a surname that is rare or misread.
        (None, 1..=4) => length,
        (None, _) => return None,
        (Some(surname), _) => length.min(surname + 2),
    };
    Some(start..start + name)
}

/// A run of two or three characters that begins with a surname and stands beside a phone number.
fn name_beside_number(text: &[char], run: &Range<usize>, numbers: &[Range<usize>]) -> Option<Range<usize>> {
    let characters = &text[run.clone()];
    let surname = surname(characters)?;
    if titled_name(characters, true).is_some() {
        return None;
    }
    let is_name = (surname + 1..=surname + 2).contains(&characters.len())
        && !NO_NAMES.iter().any(|w| starts_with(characters, w).is_some());
    let is_gap = |between: Range<usize>| text[between].iter().all(|c| !c.is_alphanumeric());
    let is_beside = |n: &Range<usize>| {
        (n.end <= run.start && is_gap(n.end..run.start)) || (run.end <= n.start && is_gap(run.end..n.start))
    };
    (is_name && numbers.iter().any(is_beside)).then(|| run.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let masked = masked(&chars);
        assert_eq!(masked.len(), chars.len());
        chars
            .into_iter()
            .zip(masked)
            .map(|(c, is_masked)| if is_masked { MASK } else { c })
            .collect()
    }

    #[test]
    fn identity_numbers_are_masked_even_if_misread_or_spaced() {
        for (text, expected) in [
            ("身份证11010519491231002X", "身份证******************"),
            ("号码110105194912310021", "号码******************"),
            ("110105 19491231 002X", "********************"),
            ("110105491231002", "***************"),
            ("11010519491231O02X", "******************"),
            ("卡号6222021380013800138", "卡号*******************"),
            ("11010519491231002X 13800138000", "****************** 13800138000"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn phone_numbers_and_dates_stay() {
        for text in [
            "开锁13800138000",
            "13800138000 13987654321",
            "0371-67890123-801",
            "+86 138 0013 8000",
            "2024-11-22 16:26:42",
            "QQ12345678",
            "微信abc_12345",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn names_are_masked() {
        for (text, expected) in [
            ("联系人:王小明", "联系人:***"),
            ("联系人王师傅", "联系人*师傅"),
            ("张先生13800138000", "*先生13800138000"),
            ("请找李经理", "请找*经理"),
            ("欧阳女士", "**女士"),
            ("陈小红老师", "***老师"),
            ("13800138000 李伟", "13800138000 **"),
            ("张建国:13800138000", "***:13800138000"),
            ("刘姐 13800138000", "*姐 13800138000"),
            ("失信人:赵大海欠款不还", "失信人:***欠款不还"),
            ("姓名:呼延灼", "姓名:***"),
        ] {
            let masked = mask(text);
            assert_eq!(masked, expected, "{text}");
        }
    }

    #[test]
    fn words_of_adverts_stay() {
        for text in [
            "高价回收13800138000",
            "高价 13800138000",
            "专业开锁换锁",
            "马桶疏通",
            "安装空调",
            "招聘经理一名",
            "客户经理",
            "石材翻新 13800138000",
            "房屋出租 两室一厅",
            "江南小区",
            "总经理",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_string_of_eighteen_digits_leaves_the_reader(
            before in "[开锁a-z:]{0,4}", digits in "[1-9][0-9]{16}[0-9X]", after in "[换锁a-z:]{0,4}",
        ) {
            let masked = mask(&format!("{before}{digits}{after}"));
            prop_assert!(!masked.contains(|c: char| c.is_ascii_digit()), "{}", masked);
        }

        #[test]
        fn any_text_is_masked_without_panic(text in "\\PC{0,40}") {
            mask(&text);
        }
    }
}
