//! The read buffer of one connection: the socket fills it, the parser reads from it, nothing is copied out but what is
//! kept.

/// Size of the buffer. The payload of the largest interleaved frame, 65,535 bytes, fits.
const CAPACITY: usize = 64 << 10;
/// With less room at its end, what is unread moves to the front.
const MIN_ROOM: usize = 16 << 10;

pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Room for more bytes; not empty while less than [`CAPACITY`] bytes are unread.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.clear();
        } else if CAPACITY - self.end < MIN_ROOM && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// The first `len` bytes of the room were filled.
    pub(crate) fn filled(&mut self, len: usize) {
        self.end = self.end.saturating_add(len).min(CAPACITY);
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops `len` unread bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_move_to_the_front_when_room_is_short() {
        let mut buffer = Buffer::new();
        buffer.room()[..CAPACITY].fill(7);
        buffer.filled(CAPACITY);
        buffer.consume(CAPACITY - 3);
        assert_eq!(buffer.room().len(), CAPACITY - 3);
        assert_eq!(buffer.unread(), [7, 7, 7]);
        buffer.consume(9);
        assert_eq!((buffer.unread().len(), buffer.room().len()), (0, CAPACITY));
    }
}
