//! [`Policy`] and its text form. Plain data, no locks.

use core::fmt;
use core::str::FromStr;

/// When idle memory goes back to the operating system without being asked.
///
/// The text form, as `EBBTIDE_POLICY` and `--policy` take it, is `off`, `percent:N` or `background:N`.
///
/// # Examples
/// ```
/// use ebbtide::Policy;
///
/// assert_eq!("percent:25".parse(), Ok(Policy::Percent(25)));
/// assert_eq!(Policy::Off.to_string(), "off");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// Nothing leaves until [`free_os_memory`](crate::free_os_memory) or [`release`](crate::release) is called, or a
    /// [memory limit](crate::set_memory_limit) demands it. This is stricter than Go's `GOGC=off`, under which the
    /// background scavenger may still run.
    Off,
    /// Idle memory of this many percent of the memory in use stays resident (and never less than 4 MiB); what is
    /// more leaves. Checked on the allocator's slow paths, by the thread that frees, when the idle bytes pass the
    /// goal by half of it and 4 MiB at least, so that a steady program takes no new page faults.
    ///
    /// Memory that leaves and comes back within a second is only let go at 16 MiB a second (after the first 32 MiB), so
    /// that a program which frees and takes the same block over and over does not spend its time on page faults. What
    /// it thus keeps leaves with a later free, or when asked for.
    ///
    /// What counts as idle is all that is resident and that nobody was handed: free runs, free pages between live
    /// objects, and at first also the free parts of pages that hold live objects. A look at the heap tells what of it
    /// cannot leave, and that is not asked about again until more has come. Such looks take 1 % of the time at most.
    Percent(u32),
    /// As [`Policy::Percent`], done by a thread of its own, so that no free waits for it: in steps of about a
    /// millisecond, at 1 % of one CPU in any minute. What it does not use it saves up for twelve seconds, so that a burst of a
    /// GiB after a rest goes in one. The threshold is nearer to the goal, a quarter of it and 2 MiB at least.
    ///
    /// The thread, named `ebbtide`, starts when 4 MiB are idle for the first time, sleeps while there is nothing to do,
    /// and ends when another policy is set. Where the kernel measures memory pressure (PSI) it looks every ten seconds,
    /// as long as idle memory stays resident, and gives all of it back when tasks are held up for want of memory for a
    /// tenth of the time. A program that must have no second thread takes [`Policy::Percent`]; where the thread
    /// cannot be had this policy works as that, after one line on stderr. A forked child starts one of its own.
    Background {
        /// The percentage.
        percent: u32,
    },
}

impl Policy {
    /// The policy when neither code nor environment names one.
    pub(crate) const DEFAULT: Self = Self::Percent(10);

    /// The percentage of the memory in use that may stay resident though idle. `None`: all of it.
    pub(super) const fn percent(self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::Percent(percent) | Self::Background { percent } => Some(percent),
        }
    }

    /// Whether memory that a map leaves behind stays resident until it is asked for.
    pub(crate) const fn keeps_retired(self) -> bool {
        matches!(self, Self::Off)
    }
}

/// The default is `percent:10`.
impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Percent(percent) => write!(f, "percent:{percent}"),
            Self::Background { percent } => write!(f, "background:{percent}"),
        }
    }
}

/// Why a text is not a [`Policy`].
///
/// # Examples
/// ```
/// use ebbtide::{ParsePolicyError, Policy};
///
/// assert_eq!("percent:many".parse::<Policy>(), Err(ParsePolicyError::Percentage));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParsePolicyError {
    /// It is none of `off`, `percent:N` and `background:N`.
    Unknown,
    /// What follows the colon is not a whole number from 0 to 4294967295.
    Percentage,
}

impl fmt::Display for ParsePolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "expected off, percent:N or background:N",
            Self::Percentage => "expected a whole number after the colon, as in percent:10",
        })
    }
}

impl core::error::Error for ParsePolicyError {}

impl FromStr for Policy {
    type Err = ParsePolicyError;

    /// Reads the text form. It allocates nothing.
    ///
    /// # Errors
    /// [`ParsePolicyError`] when the text is no policy.
    fn from_str(text: &str) -> Result<Self, ParsePolicyError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let (name, number) = text.split_once(':').ok_or(ParsePolicyError::Unknown)?;
        let percent =
            if number.bytes().all(|byte| byte.is_ascii_digit()) { number.parse().ok() } else { None };
        match name {
            "percent" => percent.map(Self::Percent).ok_or(ParsePolicyError::Percentage),
            "background" => {
                percent.map(|percent| Self::Background { percent }).ok_or(ParsePolicyError::Percentage)
            }
            _ => Err(ParsePolicyError::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for policy in
            [Policy::Off, Policy::Percent(0), Policy::Percent(u32::MAX), Policy::Background { percent: 7 }]
        {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
    }

    #[test]
    fn other_texts_are_errors() {
        for text in ["", "Off", "of", "percent", "percentage:3", "10"] {
            assert_eq!(text.parse::<Policy>(), Err(ParsePolicyError::Unknown), "{text:?}");
        }
        for text in
            ["percent:", "percent:+1", "percent:-1", "percent:1%", "background:x", "percent:4294967296"]
        {
            assert_eq!(text.parse::<Policy>(), Err(ParsePolicyError::Percentage), "{text:?}");
        }
    }
}
