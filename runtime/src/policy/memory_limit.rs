//! [`MemoryLimit`]: what a soft memory limit may be set to, and its text form. Plain data, no locks.

use core::fmt;
use core::str::FromStr;

/// A soft memory limit, as [`set_memory_limit`](crate::set_memory_limit) takes it.
///
/// The text form, as `EBBTIDE_MEMORY_LIMIT` takes it, is `off`, bytes as in `512MiB` (or `B`, `KiB`, `GiB`, `TiB`), or
/// `cgroup:90%`. What prints is read back as the same limit.
///
/// # Examples
/// ```
/// use ebbtide::MemoryLimit;
///
/// assert_eq!("512MiB".parse(), Ok(MemoryLimit::Bytes(512 << 20)));
/// assert_eq!("cgroup:90%".parse(), Ok(MemoryLimit::CgroupShare(0.9)));
/// assert_eq!(MemoryLimit::from(Some(3 << 30)).to_string(), "3GiB");
/// assert_eq!(MemoryLimit::default().to_string(), "off");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum MemoryLimit {
    /// There is no limit.
    #[default]
    None,
    /// So many bytes. `u64::MAX` is no limit.
    Bytes(u64),
    /// This share of the control group's limit, above 0 and at most 1. It is followed: see
    /// [`follow_cgroup_limit`](crate::follow_cgroup_limit). Shares count in millionths.
    CgroupShare(f64),
}

/// The whole of a share.
const MILLION: u32 = 1_000_000;

impl MemoryLimit {
    /// A share as the governor keeps it, in millionths: at least 1.
    ///
    /// # Errors
    /// [`LimitError::Share`] when it is not above 0 and at most 1.
    pub(crate) fn millionths(share: f64) -> Result<u32, LimitError> {
        let millionths = (share * f64::from(MILLION)).round();
        // Not a number is in no range.
        let fits = (1.0..=f64::from(MILLION)).contains(&millionths);
        if fits { Ok(millionths as u32) } else { Err(LimitError::Share(share)) }
    }

    /// The share of so many millionths.
    pub(crate) fn of_millionths(millionths: u32) -> Self {
        Self::CgroupShare(f64::from(millionths) / f64::from(MILLION))
    }
}

/// `None` is no limit.
impl From<Option<u64>> for MemoryLimit {
    fn from(bytes: Option<u64>) -> Self {
        bytes.map_or(Self::None, Self::Bytes)
    }
}

/// So many bytes.
impl From<u64> for MemoryLimit {
    fn from(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }
}

/// Units of bytes, the largest first, with the power of two that each is.
const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
/// Millionths of a percent.
const OF_PERCENT: u32 = MILLION / 100;

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("off"),
            Self::Bytes(0) => f.write_str("0B"),
            Self::Bytes(bytes) => {
                let fits = |(_, shift): &&(&str, u32)| bytes.trailing_zeros() >= *shift;
                let (unit, shift) = UNITS.iter().find(fits).copied().unwrap_or(("B", 0));
                write!(f, "{}{unit}", bytes >> shift)
            }
            Self::CgroupShare(share) => match Self::millionths(share) {
                Ok(share) if share % OF_PERCENT == 0 => write!(f, "cgroup:{}%", share / OF_PERCENT),
                Ok(share) => {
                    let (mut part, mut digits) = (share % OF_PERCENT, 4);
                    while part % 10 == 0 {
                        (part, digits) = (part / 10, digits - 1);
                    }
                    write!(f, "cgroup:{}.{part:0digits$}%", share / OF_PERCENT)
                }
                Err(_) => write!(f, "cgroup:{}%", share * 100.0),
            },
        }
    }
}

/// Why a limit cannot be set.
///
/// # Examples
/// ```
/// use ebbtide::{LimitError, MemoryLimit};
///
/// let error = ebbtide::set_memory_limit(MemoryLimit::CgroupShare(2.0)).unwrap_err();
/// assert_eq!(error, LimitError::Share(2.0));
/// assert_eq!(error.to_string(), "2 is no share of a limit: it must be above 0 and at most 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LimitError {
    /// This share is not above 0 and at most 1.
    Share(f64),
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => {
                write!(f, "{share} is no share of a limit: it must be above 0 and at most 1")
            }
        }
    }
}

impl core::error::Error for LimitError {}

/// Why a text is not a [`MemoryLimit`].
///
/// # Examples
/// ```
/// use ebbtide::{MemoryLimit, ParseLimitError};
///
/// assert_eq!("much".parse::<MemoryLimit>(), Err(ParseLimitError::Unknown));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseLimitError {
    /// It is none of the forms.
    Unknown,
    /// It is more than 64 bits can count.
    TooLarge,
    /// What follows `cgroup:` is not a percentage above 0 and at most 100, with four decimals at most.
    Percentage,
}

impl fmt::Display for ParseLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "expected bytes as in 512MiB (B, KiB, MiB, GiB, TiB), cgroup:90% or off",
            Self::TooLarge => "more bytes than 64 bits can count",
            Self::Percentage => "expected a number above 0 and at most 100 and %, as in cgroup:90%",
        })
    }
}

impl core::error::Error for ParseLimitError {}

impl FromStr for MemoryLimit {
    type Err = ParseLimitError;

    /// Reads the text form. It allocates nothing.
    ///
    /// # Errors
    /// [`ParseLimitError`] when the text is no limit.
    fn from_str(text: &str) -> Result<Self, ParseLimitError> {
        if text == "off" {
            return Ok(Self::None);
        }
        if let Some(share) = text.strip_prefix("cgroup:") {
            let share = share.strip_suffix('%').and_then(millionths_of_percent);
            return share.map(Self::of_millionths).ok_or(ParseLimitError::Percentage);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at(digits);
        let unit = UNITS.iter().find(|(unit, _)| *unit == suffix || (suffix.is_empty() && *unit == "B"));
        let (_, shift) = unit.ok_or(ParseLimitError::Unknown)?;
        let number = whole_number(number).ok_or(ParseLimitError::Unknown)??;
        number.checked_mul(1 << shift).map(Self::Bytes).ok_or(ParseLimitError::TooLarge)
    }
}

/// A percentage above 0 and at most 100 in millionths of the whole, of which each has four to a percent.
fn millionths_of_percent(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text| whole_number(text)?.ok()?.try_into().ok();
    let (whole, decimals): (u32, u32) = (number(whole)?, number(part)?);
    let missing = 4_u32.checked_sub(u32::try_from(part.len()).ok()?)?;
    let millionths = whole.checked_mul(OF_PERCENT)?.checked_add(decimals * 10_u32.pow(missing))?;
    (1..=MILLION).contains(&millionths).then_some(millionths)
}

/// `None`: these are no digits.
fn whole_number(text: &str) -> Option<Result<u64, ParseLimitError>> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().map_err(|_| ParseLimitError::TooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn texts_are_read() {
        let read = |text: &str| text.parse::<MemoryLimit>();
        assert_eq!(read("off"), Ok(MemoryLimit::None));
        assert_eq!(read("512MiB"), Ok(MemoryLimit::Bytes(512 * MIB)));
        assert_eq!(read("0"), Ok(MemoryLimit::Bytes(0)));
        assert_eq!(read("7B"), Ok(MemoryLimit::Bytes(7)));
        assert_eq!(read("3KiB"), Ok(MemoryLimit::Bytes(3072)));
        assert_eq!(read("2TiB"), Ok(MemoryLimit::Bytes(2 << 40)));
        assert_eq!(read("18446744073709551615"), Ok(MemoryLimit::Bytes(u64::MAX)));
        assert_eq!(read("cgroup:90%"), Ok(MemoryLimit::CgroupShare(0.9)));
        assert_eq!(read("cgroup:62.5%"), Ok(MemoryLimit::CgroupShare(0.625)));
        assert_eq!(read("cgroup:0.0001%"), Ok(MemoryLimit::CgroupShare(0.000_001)));
        for text in ["", "MiB", "-1", "+1", "1.5GiB", "512MB", "512mib", "512 MiB", "Off", "cgroup", "1e9"] {
            assert_eq!(read(text), Err(ParseLimitError::Unknown), "{text:?}");
        }
        for text in ["18446744073709551616", "16777216TiB", "99999999999999999999999KiB"] {
            assert_eq!(read(text), Err(ParseLimitError::TooLarge), "{text:?}");
        }
        let wrong = ["", "%", "0%", "101%", "90", "-1%", "+5%", "4294967386%", "99999999999999999999999%"];
        let fractions = ["0.0%", "9.%", ".5%", "9.5.1%", "100.0001%", "1.00001%", "1.-5%", "1.99999999999%"];
        for share in wrong.iter().chain(&fractions) {
            assert_eq!(read(&format!("cgroup:{share}")), Err(ParseLimitError::Percentage), "{share:?}");
        }
    }

    #[test]
    fn limits_print_as_they_are_read() {
        for (limit, text) in [
            (MemoryLimit::None, "off"),
            (MemoryLimit::Bytes(0), "0B"),
            (MemoryLimit::Bytes(1000), "1000B"),
            (MemoryLimit::Bytes(1536 * MIB), "1536MiB"),
            (MemoryLimit::Bytes(5 << 50), "5120TiB"),
            (MemoryLimit::Bytes(u64::MAX), "18446744073709551615B"),
            (MemoryLimit::CgroupShare(1.0), "cgroup:100%"),
            (MemoryLimit::CgroupShare(0.905), "cgroup:90.5%"),
            (MemoryLimit::CgroupShare(0.900_001), "cgroup:90.0001%"),
        ] {
            assert_eq!(limit.to_string(), text);
            assert_eq!(text.parse(), Ok(limit));
        }
        assert_eq!(MemoryLimit::CgroupShare(2.0).to_string(), "cgroup:200%");
    }

    #[test]
    fn only_shares_are_shares() {
        assert_eq!(MemoryLimit::millionths(1.0), Ok(MILLION));
        assert_eq!(MemoryLimit::millionths(1e-6), Ok(1));
        for share in [0.0, -0.5, 1e-7, 1.000_001, 2.0, f64::INFINITY] {
            assert_eq!(MemoryLimit::millionths(share), Err(LimitError::Share(share)));
        }
        assert!(MemoryLimit::millionths(f64::NAN).is_err());
    }

    #[test]
    fn numbers_become_limits() {
        assert_eq!(MemoryLimit::from(Some(7)), MemoryLimit::Bytes(7));
        assert_eq!(MemoryLimit::from(None), MemoryLimit::None);
        assert_eq!(MemoryLimit::from(7), MemoryLimit::Bytes(7));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}", share in "[0-9.%]{0,12}") {
            let _ = text.parse::<MemoryLimit>();
            let _ = format!("cgroup:{share}").parse::<MemoryLimit>();
        }

        #[test]
        fn what_prints_is_read_back(bytes in any::<u64>(), millionths in 1..=MILLION) {
            for limit in [MemoryLimit::Bytes(bytes), MemoryLimit::of_millionths(millionths)] {
                prop_assert_eq!(limit.to_string().parse(), Ok(limit));
            }
        }
    }
}
