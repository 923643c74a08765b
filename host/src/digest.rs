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

/// In files and answers, for serde: a digest as its hexadecimal digits.
pub mod as_hex {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Bytes;

    /// Writes the digits.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(digest: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(digest))
    }

    /// Reads the digits.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no SHA-256: expected 64 hexadecimal digits")))
    }
}

/// As [`as_hex`], for what may be absent.
pub mod as_hex_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Bytes;

    #[derive(Serialize, Deserialize)]
    struct Present(#[serde(with = "super::as_hex")] Bytes);

    /// Writes the digits, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(digest: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        digest.map(Present).serialize(serializer)
    }

    /// Reads the digits, if there are any.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Present>::deserialize(deserializer)?.map(|Present(digest)| digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_digits() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Held {
            #[serde(with = "as_hex")]
            one: Bytes,
            #[serde(default, with = "as_hex_or_null")]
            two: Option<Bytes>,
        }
        let digits = "ab".repeat(32);
        let held = Held { one: [0xab; 32], two: Some([0xab; 32]) };
        let text = format!(r#"{{"one":"{digits}","two":"{digits}"}}"#);
        assert_eq!(serde_json::to_string(&held).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<Held>(&text).expect("digits"), held);
        let without = format!(r#"{{"one":"{digits}"}}"#);
        assert_eq!(serde_json::from_str::<Held>(&without).expect("digits").two, None);
        assert!(serde_json::from_str::<Held>(r#"{"one":"ab"}"#).is_err());
    }

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
