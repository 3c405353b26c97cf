//! Reads the bits of a raw byte sequence payload (ITU-T H.264 7.3.1, 7.2 and 9.1; H.265 7.3.1.1, 7.2 and 9.2), leaving
//! out emulation prevention bytes. Every read past the end is `None`.

/// A position in a payload.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The payload still has its emulation prevention bytes.
    is_escaped: bool,
    /// Zero bytes directly before `bytes`, up to 2.
    zeros: u8,
    current: u8,
    left: u32,
}

impl<'a> BitReader<'a> {
    /// Reads from the byte after the NAL unit header.
    pub fn new(payload: &'a [u8]) -> Self {
        Self {
            bytes: payload,
            is_escaped: true,
            zeros: 0,
            current: 0,
            left: 0,
        }
    }

    /// Reads a payload whose emulation prevention bytes were removed ([`crate::nal::unescape`]).
    pub fn unescaped(payload: &'a [u8]) -> Self {
        Self {
            is_escaped: false,
            ..Self::new(payload)
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if self.zeros == 2 && byte == 3 && self.is_escaped {
            self.zeros = 0;
            return self.next_byte();
        }
        self.zeros = if byte == 0 { (self.zeros + 1).min(2) } else { 0 };
        Some(byte)
    }

    /// One bit.
    pub fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// u(n), `n` up to 32.
    pub fn bits(&mut self, n: u32) -> Option<u32> {
        debug_assert!(n <= 32, "a value of {n} bits does not fit");
        let mut value = 0;
        for _ in 0..n {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Skips `n` bits.
    pub fn skip(&mut self, n: u32) -> Option<()> {
        for _ in 0..n {
            self.flag()?;
        }
        Some(())
    }

    /// ue(v) up to 2³² − 2; no syntax element is larger.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        Some((1_u32 << zeros) - 1 + suffix)
    }

    /// ue(v), `None` above `max`.
    pub fn ue_up_to(&mut self, max: u32) -> Option<u32> {
        self.ue().filter(|value| *value <= max)
    }

    /// u(1) `count` times.
    pub(crate) fn flags<const COUNT: usize>(&mut self) -> Option<[bool; COUNT]> {
        let mut flags = [false; COUNT];
        for flag in &mut flags {
            *flag = self.flag()?;
        }
        Some(flags)
    }

    /// se(v) from `-max` to `max`, `None` outside.
    pub(crate) fn se_up_to(&mut self, max: i64) -> Option<i32> {
        self.se().filter(|value| value.abs() <= max).map(|value| value as i32)
    }

    /// Whether only `rbsp_trailing_bits()` (7.3.2.11) is left: a 1, then zeros.
    pub(crate) fn is_at_end(&self) -> bool {
        let mut rest = self.clone();
        rest.flag() == Some(true)
            && u16::from(rest.current) & ((1 << rest.left) - 1) == 0
            && rest.bytes.iter().all(|b| *b == 0)
    }

    /// Reads `byte_alignment()`: a 1, then zeros up to the end of the byte. Returns what follows.
    pub(crate) fn aligned_rest(mut self) -> Option<&'a [u8]> {
        let stop = self.flag()?;
        (stop && u16::from(self.current) & ((1 << self.left) - 1) == 0).then_some(self.bytes)
    }

    /// Reads `cabac_alignment_one_bit`s up to the end of the byte. Returns what follows.
    pub(crate) fn aligned_to_ones(self) -> Option<&'a [u8]> {
        let mask = (1_u16 << self.left) - 1;
        (u16::from(self.current) & mask == mask).then_some(self.bytes)
    }

    /// Bits not read yet, those of emulation prevention bytes included.
    pub(crate) fn bits_left(&self) -> usize {
        self.bytes.len() * 8 + self.left as usize
    }

    /// se(v).
    pub fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 1 { code / 2 + 1 } else { -(code / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_read() {
        // 1 | 010 | 011 | 00100 | 00101, then se: 010 (1) | 011 (-1).
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1010_0110]);
        let read: Vec<_> = (0..5).map(|_| bits.ue().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        assert_eq!((bits.se(), bits.se()), (Some(1), Some(-1)));
        assert_eq!(BitReader::new(&[0; 5]).ue(), None, "more than 31 leading zeros");
        assert_eq!(BitReader::new(&[0]).ue(), None);
        assert_eq!(
            BitReader::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).ue(),
            Some(u32::MAX - 1)
        );
        assert_eq!(BitReader::new(&[0x80]).ue_up_to(0), Some(0));
        assert_eq!(BitReader::new(&[0x40]).ue_up_to(0), None);
    }

    #[test]
    fn emulation_prevention_bytes_are_left_out() {
        let mut bits = BitReader::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!(bits.bits(32), Some(0x100));
        assert_eq!(bits.bits(8), Some(0));
        assert_eq!(bits.bits(8), None);
    }
}
