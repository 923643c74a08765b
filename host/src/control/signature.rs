//! Signatures of plugins, in minisign's format: whether the bytes were signed with one of the keys that the config trusts.
//! Reads no file, and makes no signature.

use minisign_verify::Error as Refusal;

use crate::config::public_key::{PublicKey, key_id};

/// What is appended to a plugin's file name, as minisign does.
pub const SUFFIX: &str = ".minisig";

/// Why bytes can't be trusted. Follows `plugin NAME`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Nobody signed them.
    #[error("is not signed, and `public_keys` asks for a signature")]
    Unsigned,
    /// There is a file, and it can't be read.
    #[error("has a signature that can't be read: {0}")]
    Unreadable(String),
    /// The file is something else, or damaged.
    #[error("has a signature that is not minisign's, expected the four lines of a `{SUFFIX}` file")]
    Malformed,
    /// The signature is somebody else's.
    #[error("is signed with key `{found}`, expected one of `public_keys`: {known}")]
    UnknownKey {
        /// As minisign prints it.
        found: String,
        /// Those of the config.
        known: String,
    },
    /// The signature is of other bytes, or forged.
    #[error("is not what was signed with key `{key}`")]
    Mismatch {
        /// As minisign prints it.
        key: String,
    },
}

impl Reason {
    /// What to do about the plugin of this name.
    pub fn hint(&self, plugin: &str) -> String {
        match self {
            Self::Unsigned => {
                format!("sign it: `minisign -Sm {plugin}.wasm`, and put `{plugin}.wasm{SUFFIX}` beside it")
            }
            Self::Unreadable(_) => format!("make `{plugin}.wasm{SUFFIX}` readable for the host"),
            Self::Malformed | Self::Mismatch { .. } => {
                format!("sign it again: `minisign -Sm {plugin}.wasm`, and put both files in place")
            }
            Self::UnknownKey { .. } => {
                "sign it with a key that is trusted, or add the other one to `public_keys` of `[plugins]`".to_owned()
            }
        }
    }
}

/// Whether one of the keys signed the bytes. Signatures of the bytes themselves, which minisign made before 0.8, count as
/// well as those of their hash.
///
/// # Errors
/// When none did: why the signature is refused.
pub fn verify(keys: &[PublicKey], bytes: &[u8], signature: &str) -> Result<(), Reason> {
    // Tools of other systems end lines their way.
    let signature = signature.replace('\r', "");
    let parsed = minisign_verify::Signature::decode(&signature).map_err(|_| Reason::Malformed)?;
    let mut mismatch = false;
    for key in keys {
        match key.key.verify(bytes, &parsed, true) {
            Ok(()) => return Ok(()),
            Err(Refusal::UnexpectedKeyId) => {}
            Err(_) => mismatch = true,
        }
    }
    let found = signature.lines().nth(1).and_then(key_id).ok_or(Reason::Malformed)?;
    if mismatch {
        return Err(Reason::Mismatch { key: found });
    }
    let known: Vec<_> = keys.iter().map(|key| format!("`{}`", key.id)).collect();
    Err(Reason::UnknownKey { found, known: known.join(", ") })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    // Made with minisign, for the bytes `test`: with the hash, and as older versions do.
    pub(in crate::control) const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    pub(in crate::control) const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==
";
    const OLD_SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
";

    fn key(line: &str) -> PublicKey {
        PublicKey::parse(line).expect("a key")
    }

    fn check(keys: &[PublicKey], bytes: &[u8], signature: &str, expected: Result<(), &str>) {
        let verified = verify(keys, bytes, signature).map_err(|reason| reason.to_string());
        assert_eq!(verified, expected.map_err(str::to_owned), "{signature}");
    }

    #[test]
    fn what_a_trusted_key_signed_is_taken() {
        check(&[key(KEY)], b"test", SIGNATURE, Ok(()));
        check(&[key(KEY)], b"test", OLD_SIGNATURE, Ok(()));
        check(&[key(KEY)], b"test", &SIGNATURE.replace('\n', "\r\n"), Ok(()));
    }

    #[test]
    fn other_bytes_and_changed_signatures_are_refused() {
        let mismatch = Err("is not what was signed with key `E7620F1842B4E81F`");
        check(&[key(KEY)], b"Test", SIGNATURE, mismatch);
        check(&[key(KEY)], b"Test", OLD_SIGNATURE, mismatch);
        check(&[key(KEY)], b"test", &SIGNATURE.replace("file:test", "file:best"), mismatch);
        let malformed = Err("has a signature that is not minisign's, expected the four lines of a `.minisig` file");
        for signature in ["", "test", &SIGNATURE[..SIGNATURE.len() / 2], &SIGNATURE.replace("RUQf", "RUQ!")] {
            check(&[key(KEY)], b"test", signature, malformed);
        }
    }

    #[test]
    fn a_key_that_is_not_trusted_is_named() {
        let mut other = KEY.to_owned();
        other.replace_range(4..6, "AA");
        let other = key(&other);
        let expected = format!("is signed with key `E7620F1842B4E81F`, expected one of `public_keys`: `{}`", other.id);
        check(std::slice::from_ref(&other), b"test", SIGNATURE, Err(&expected));
        check(&[other, key(KEY)], b"test", SIGNATURE, Ok(()));
    }
}
