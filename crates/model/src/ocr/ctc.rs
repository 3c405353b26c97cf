//! Decodes a text recogniser's output by CTC best path.
//!
//! Source: Graves et al., Connectionist Temporal Classification (ICML 2006), §3.2: take the most probable class of each step, collapse
//! repeats, remove blanks. Class 0 is the blank, as in PaddleOCR's `CTCLabelDecode`.

/// The characters of a recogniser; class 1 is the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alphabet(Vec<char>);

/// A recognised character.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecognisedChar {
    /// The character.
    pub char: char,
    /// Highest probability over its steps, 0..=1.
    pub score: f32,
}

/// The alphabet file is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlphabetError {
    /// A line does not contain exactly one character.
    #[error("line {line} contains {text:?}; write one character per line, in the order of the network's classes")]
    LineBox {
        /// Line number, from 1.
        line: usize,
        /// Text of the line.
        text: String,
    },
    /// The number of characters does not match the network.
    #[error(
        "{found} characters, but the network has {classes} classes (the blank, one per character and, optionally, a final \
         space); use the alphabet of this network"
    )]
    Count {
        /// Number of lines in the file.
        found: usize,
        /// Number of classes of the network.
        classes: usize,
    },
}

impl Alphabet {
    /// Parses a file with one character per line for a network with `classes` classes. If the file has one character too few, the last
    /// class is the space, as with PaddleOCR's `use_space_char`.
    ///
    /// # Errors
    /// [`AlphabetError`].
    pub(super) fn parse(text: &str, classes: usize) -> Result<Self, AlphabetError> {
        let mut chars = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let mut line_chars = line.chars();
            match (line_chars.next(), line_chars.next()) {
                (Some(c), None) => chars.push(c),
                _ => {
                    return Err(AlphabetError::LineBox {
                        line: i + 1,
                        text: line.to_owned(),
                    });
                }
            }
        }
        if chars.len() + 2 == classes {
            chars.push(' ');
        }
        if chars.len() + 1 == classes {
            Ok(Self(chars))
        } else {
            Err(AlphabetError::Count {
                found: text.lines().count(),
                classes,
            })
        }
    }

    /// Number of classes of the network: the blank and one per character.
    pub(super) fn classes(&self) -> usize {
        self.0.len() + 1
    }

    /// Decodes probabilities `[steps, classes]` in row-major order.
    ///
    /// # Panics
    /// If the length is not a multiple of [`Self::classes`].
    pub(super) fn decode(&self, steps: &[f32]) -> Vec<RecognisedChar> {
        assert_eq!(steps.len() % self.classes(), 0, "one probability per class");
        let mut chars: Vec<RecognisedChar> = Vec::new();
        let mut last = 0;
        for step in steps.chunks_exact(self.classes()) {
            let (class, score) =
                step.iter().copied().enumerate().fold(
                    (0, f32::NEG_INFINITY),
                    |best, (i, p)| {
                        if p > best.1 { (i, p) } else { best }
                    },
                );
            if class != 0 {
                match chars.last_mut().filter(|_| class == last) {
                    Some(previous) => previous.score = previous.score.max(score),
                    None => chars.push(RecognisedChar {
                        char: self.0[class - 1],
                        score,
                    }),
                }
            }
            last = class;
        }
        chars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alphabet() -> Alphabet {
        Alphabet::parse("1\n2\n", 4).unwrap()
    }

    fn decoded(steps: &[[f32; 4]]) -> (String, Vec<f32>) {
        let chars = alphabet().decode(&steps.concat());
        (
            chars.iter().map(|l| l.char).collect(),
            chars.iter().map(|l| l.score).collect(),
        )
    }

    #[test]
    fn repeats_collapse_and_a_blank_separates_equal_characters() {
        let (blank, one, sure, two, space) = (
            [0.9, 0.1, 0.0, 0.0],
            [0.3, 0.6, 0.1, 0.0],
            [0.1, 0.8, 0.1, 0.0],
            [0.0, 0.0, 0.7, 0.3],
            [0.1, 0.0, 0.0, 0.9],
        );
        let (text, scores) = decoded(&[blank, one, sure, blank, one, two, two, space, blank]);
        assert_eq!(text, "112 ");
        assert_eq!(scores, [0.8, 0.6, 0.7, 0.9]);
        assert_eq!(decoded(&[blank, blank]).0, "");
        assert_eq!(decoded(&[]).0, "");
    }

    #[test]
    fn an_alphabet_that_does_not_match_is_refused() {
        assert_eq!(Alphabet::parse("1\n2\n \n", 4).unwrap(), alphabet());
        assert_eq!(
            Alphabet::parse("1\n2", 97),
            Err(AlphabetError::Count { found: 2, classes: 97 })
        );
        assert!(matches!(
            Alphabet::parse("1\n\n3", 4),
            Err(AlphabetError::LineBox { line: 2, .. })
        ));
        assert!(matches!(
            Alphabet::parse("1\n23", 3),
            Err(AlphabetError::LineBox { line: 2, .. })
        ));
    }
}
