//! SHA-256 digests, always written as 64 lower-case hex digits.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes` as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of what `read` yields, and its number of bytes. Holds 64 KiB of it at a time.
///
/// # Errors
/// The error of `read`.
pub fn sha256_of(mut read: impl Read) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut length = 0;
    loop {
        match read.read(&mut buffer) {
            Ok(0) => return Ok((hex(&hasher.finalize()), length)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn matches_the_fips_180_4_example() {
        // FIPS 180-4, example for "abc".
        assert_eq!(
            super::sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_stream_has_the_digest_and_length_of_its_bytes() {
        let bytes = vec![7; 200_000];
        let (digest, length) = super::sha256_of(&bytes[..]).unwrap();
        assert_eq!((digest, length), (super::sha256_hex(&bytes), 200_000));
    }
}
