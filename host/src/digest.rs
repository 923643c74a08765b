//! SHA-256 digests: versions of plugins, names of generations. Computed and printed here, and nowhere else.

use sha2::{Digest, Sha256};

/// A digest, as bytes.
pub type Bytes = [u8; 32];

/// The digest of some bytes.
pub fn of(bytes: &[u8]) -> Bytes {
    Sha256::digest(bytes).into()
}

/// As 64 hexadecimal digits; [`short`] where people read it.
pub fn hex(digest: &Bytes) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 8 hexadecimal digits, as the contract's headers have them.
pub fn short(digest: &Bytes) -> String {
    hex(digest)[..8].to_owned()
}

/// Reads 64 hexadecimal digits; none for anything else.
pub fn parse(text: &str) -> Option<Bytes> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_as_other_tools_print_it() {
        let digest = of(b"abc");
        assert_eq!(hex(&digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(short(&digest), "ba7816bf");
        assert_eq!(parse(&hex(&digest)), Some(digest));
        assert_eq!(parse("ba78"), None);
        assert_eq!(parse(&"+1".repeat(32)), None);
    }
}
