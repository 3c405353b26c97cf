//! A text recogniser's output to characters, by CTC's best path.
//!
//! Source: Graves et al., Connectionist Temporal Classification (ICML 2006), §3.2: the likeliest class of each step, runs of one
//! class taken once, blanks struck out. Class 0 is the blank, as in PaddleOCR's `CTCLabelDecode`.

/// What the recogniser can write: class 1 is the first character, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alphabet(Vec<char>);

/// One character as it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecognisedChar {
    /// Which.
    pub char: char,
    /// The highest probability that it had at one of its steps, 0..=1.
    pub score: f32,
}

/// A file that is no alphabet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlphabetError {
    /// A line holds several characters or none.
    #[error("line {line} holds {text:?}: one character a line is needed, in the order of the network's classes")]
    LineBox {
        /// From 1.
        line: usize,
        /// What it holds.
        text: String,
    },
    /// It has other characters than the network has classes.
    #[error(
        "{found} characters, but the network has {classes} classes: the first is the blank, the last may be a space that \
         the file leaves out; is it another network's alphabet?"
    )]
    Count {
        /// Lines of the file.
        found: usize,
        /// Classes of the network.
        classes: usize,
    },
}

impl Alphabet {
    /// One character a line, for a network of `classes`; a last class that the file leaves out is the space, as with
    /// PaddleOCR's `use_space_char`.
    ///
    /// # Errors
    /// A line of another form, or another number of them.
    pub fn parse(text: &str, classes: usize) -> Result<Self, AlphabetError> {
        let mut letters = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let mut chars = line.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => letters.push(c),
                _ => {
                    return Err(AlphabetError::LineBox {
                        line: i + 1,
                        text: line.to_owned(),
                    });
                }
            }
        }
        if letters.len() + 2 == classes {
            letters.push(' ');
        }
        if letters.len() + 1 == classes {
            Ok(Self(letters))
        } else {
            Err(AlphabetError::Count {
                found: text.lines().count(),
                classes,
            })
        }
    }

    /// The network's classes: a blank, and one for each character.
    pub fn classes(&self) -> usize {
        self.0.len() + 1
    }

    /// Reads `[steps, classes]` probabilities, row by row.
    ///
    /// # Panics
    /// If `steps` is not made of whole rows.
    pub fn spell(&self, steps: &[f32]) -> Vec<RecognisedChar> {
        assert_eq!(steps.len() % self.classes(), 0, "a probability for each class");
        let mut letters: Vec<RecognisedChar> = Vec::new();
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
                match letters.last_mut().filter(|_| class == last) {
                    Some(letter) => letter.score = letter.score.max(score),
                    None => letters.push(RecognisedChar {
                        char: self.0[class - 1],
                        score,
                    }),
                }
            }
            last = class;
        }
        letters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alphabet() -> Alphabet {
        Alphabet::parse("1\n2\n", 4).unwrap()
    }

    fn spelled(steps: &[[f32; 4]]) -> (String, Vec<f32>) {
        let letters = alphabet().spell(&steps.concat());
        (
            letters.iter().map(|l| l.char).collect(),
            letters.iter().map(|l| l.score).collect(),
        )
    }

    #[test]
    fn a_run_is_one_letter_and_a_blank_parts_two() {
        let (blank, one, sure, two, space) = (
            [0.9, 0.1, 0.0, 0.0],
            [0.3, 0.6, 0.1, 0.0],
            [0.1, 0.8, 0.1, 0.0],
            [0.0, 0.0, 0.7, 0.3],
            [0.1, 0.0, 0.0, 0.9],
        );
        let (text, scores) = spelled(&[blank, one, sure, blank, one, two, two, space, blank]);
        assert_eq!(text, "112 ");
        assert_eq!(scores, [0.8, 0.6, 0.7, 0.9]);
        assert_eq!(spelled(&[blank, blank]).0, "");
        assert_eq!(spelled(&[]).0, "");
    }

    #[test]
    fn an_alphabet_of_another_network_is_refused() {
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
