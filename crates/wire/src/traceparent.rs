//! The header `traceparent` of W3C Trace Context: trace and parent span of a request.

use std::str::FromStr;

/// A parsed `traceparent`: `<version>-<trace>-<span>-<flags>`, in lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace; not all zeros.
    pub trace: [u8; 16],
    /// The caller's span; not all zeros.
    pub span: [u8; 8],
    /// `true` if the caller records the trace.
    pub sampled: bool,
}

/// The text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is `00-<32 hexadecimal digits>-<16 hexadecimal digits>-<2 hexadecimal digits>`"
)]
pub struct BadTraceparent;

impl FromStr for Traceparent {
    type Err = BadTraceparent;

    /// Unknown versions may have more fields after the flags.
    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags, rest @ ..] = parts.as_slice() else {
            return Err(BadTraceparent);
        };
        let [version] = bytes::<1>(version)?;
        let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes::<1>(flags)?);
        let is_known = version == 0 && rest.is_empty();
        let is_later = (1..255).contains(&version);
        if trace == [0; 16] || span == [0; 8] || !(is_known || is_later) {
            return Err(BadTraceparent);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

fn bytes<const N: usize>(digits: &str) -> Result<[u8; N], BadTraceparent> {
    let is_hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != 2 * N || !is_hex {
        return Err(BadTraceparent);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| BadTraceparent)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| BadTraceparent)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_traceparents_are_accepted() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let read = format!("00-{trace}-{span}-01").parse::<Traceparent>().unwrap();
        assert_eq!(read.trace.first_chunk(), Some(&[0x0a, 0xf7]));
        assert_eq!(read.span.last_chunk(), Some(&[0x33, 0x31]));
        assert!(read.sampled);
        let unsampled = format!("00-{trace}-{span}-00").parse::<Traceparent>();
        assert!(unsampled.is_ok_and(|read| !read.sampled));
        assert!(format!("cc-{trace}-{span}-01-what-comes").parse::<Traceparent>().is_ok());
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}-1"),
            format!("00-{trace}-+7ad6b7169203331-01"),
            format!("00-{}é-{span}-01", trace.split_at(30).0),
        ] {
            assert_eq!(wrong.parse::<Traceparent>(), Err(BadTraceparent), "{wrong}");
        }
    }
}
