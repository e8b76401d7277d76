//! The environment variables, from bytes to settings. Reading them allocates nothing, since it happens before `main`.
//!
//! A variable that is not set, or empty, means its default. So does one that cannot be read, after one line on stderr.

use crate::events::trace::Topics;
use crate::kernel;
use crate::kernel::line::Line;
use crate::policy::{MemoryLimit, ParseLimitError, ParsePolicyError, Policy};

/// The longest part of an unreadable value that is shown.
const SHOWN: usize = 80;

/// The policy that `EBBTIDE_POLICY` names.
pub(super) fn policy() -> Policy {
    kernel::with_variable(c"EBBTIDE_POLICY", |value| {
        read_policy(value).unwrap_or_else(|complaint| {
            complaint.emit();
            Policy::DEFAULT
        })
    })
}

/// The limit that `EBBTIDE_MEMORY_LIMIT` names.
pub(super) fn limit() -> MemoryLimit {
    kernel::with_variable(c"EBBTIDE_MEMORY_LIMIT", |value| {
        read_limit(value).unwrap_or_else(|complaint| {
            complaint.emit();
            MemoryLimit::None
        })
    })
}

/// Complains of a value of `EBBTIDE_KERNEL` that the allocator does not know: it has read it already.
pub(super) fn check_kernel() {
    kernel::with_variable(c"EBBTIDE_KERNEL", |value| {
        if let Err(complaint) = read_kernel(value) {
            complaint.emit();
        }
    });
}

#[expect(clippy::result_large_err, reason = "no box before main")]
fn read_kernel(value: Option<&[u8]>) -> Result<(), Line> {
    match value.unwrap_or_default() {
        b"" | b"plain" => Ok(()),
        value => Err(Line::new(format_args!(
            "ebbtide: EBBTIDE_KERNEL=\"{}\" ignored: expected plain or nothing",
            value.escape_ascii()
        ))),
    }
}

/// The events that `EBBTIDE_TRACE` lists.
pub(super) fn topics() -> Topics {
    kernel::with_variable(c"EBBTIDE_TRACE", |value| {
        read_topics(value).unwrap_or_else(|complaint| {
            complaint.emit();
            Topics::NONE
        })
    })
}

#[expect(clippy::result_large_err, reason = "no box before main")]
fn read_policy(value: Option<&[u8]>) -> Result<Policy, Line> {
    let value = value.unwrap_or_default().trim_ascii();
    if value.is_empty() {
        return Ok(Policy::DEFAULT);
    }
    let reason = match core::str::from_utf8(value) {
        Err(_) => ParsePolicyError::Unknown,
        Ok(text) => match text.parse() {
            Ok(policy) => return Ok(policy),
            Err(reason) => reason,
        },
    };
    Err(Line::new(format_args!(
        "ebbtide: EBBTIDE_POLICY=\"{}\" ignored: {reason}; using {}",
        shown(value),
        Policy::DEFAULT
    )))
}

#[expect(clippy::result_large_err, reason = "no box before main")]
fn read_limit(value: Option<&[u8]>) -> Result<MemoryLimit, Line> {
    let value = value.unwrap_or_default().trim_ascii();
    if value.is_empty() {
        return Ok(MemoryLimit::None);
    }
    let read = core::str::from_utf8(value).map_err(|_| ParseLimitError::Unknown).and_then(str::parse);
    read.map_err(|reason| {
        Line::new(format_args!(
            "ebbtide: EBBTIDE_MEMORY_LIMIT=\"{}\" ignored: {reason}; no limit",
            shown(value)
        ))
    })
}

#[expect(clippy::result_large_err, reason = "no box before main")]
fn read_topics(value: Option<&[u8]>) -> Result<Topics, Line> {
    let value = value.unwrap_or_default();
    let mut topics = Topics::NONE;
    for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        topics = topics.with(match word {
            b"" => Topics::NONE,
            b"release" => Topics::RELEASE,
            b"map" => Topics::MAP,
            b"limit" => Topics::LIMIT,
            b"all" => Topics::ALL,
            _ => {
                return Err(Line::new(format_args!(
                    "ebbtide: EBBTIDE_TRACE=\"{}\" ignored: expected a list of release, map, limit and all; \
                     tracing nothing",
                    shown(value)
                )));
            }
        });
    }
    Ok(topics)
}

/// The start of `value`, printable.
fn shown(value: &[u8]) -> core::slice::EscapeAscii<'_> {
    value.get(..SHOWN).unwrap_or(value).escape_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint<T>(result: Result<T, Line>) -> String {
        let line = result.err().expect("a complaint");
        let text = String::from_utf8(line.as_bytes().to_vec()).expect("text");
        assert_eq!(text.matches('\n').count(), 1, "one line: {text:?}");
        assert!(text.ends_with('\n'));
        text
    }

    fn policy_of(value: &str) -> Policy {
        read_policy(Some(value.as_bytes())).ok().expect(value)
    }

    #[test]
    fn policies_are_read() {
        assert_eq!(read_policy(None).ok(), Some(Policy::Percent(10)));
        assert_eq!(policy_of(""), Policy::Percent(10));
        assert_eq!(policy_of("off"), Policy::Off);
        assert_eq!(policy_of(" percent:25 "), Policy::Percent(25));
        assert_eq!(policy_of("background:5"), Policy::Background { percent: 5 });
    }

    #[test]
    fn unreadable_policies_name_variable_value_and_default() {
        assert_eq!(
            complaint(read_policy(Some(b"sometimes"))),
            "ebbtide: EBBTIDE_POLICY=\"sometimes\" ignored: expected off, percent:N or background:N; using percent:10\n"
        );
        assert_eq!(
            complaint(read_policy(Some(b"percent:many"))),
            "ebbtide: EBBTIDE_POLICY=\"percent:many\" ignored: expected a whole number after the colon, as in \
             percent:10; using percent:10\n"
        );
        assert!(complaint(read_policy(Some(b"a\nb\xff"))).contains("\"a\\nb\\xff\""));
        assert!(complaint(read_policy(Some(&[1; 5000]))).len() < 512);
    }

    #[test]
    fn only_a_plain_kernel_is_known() {
        assert!(
            read_kernel(None).is_ok()
                && read_kernel(Some(b"")).is_ok()
                && read_kernel(Some(b"plain")).is_ok()
        );
        assert_eq!(
            complaint(read_kernel(Some(b"old"))),
            "ebbtide: EBBTIDE_KERNEL=\"old\" ignored: expected plain or nothing\n"
        );
    }

    #[test]
    fn limits_are_read() {
        let read = |text: &str| read_limit(Some(text.as_bytes())).ok().expect(text);
        assert_eq!(read_limit(None).ok(), Some(MemoryLimit::None));
        assert_eq!((read(""), read("off")), (MemoryLimit::None, MemoryLimit::None));
        assert_eq!(read(" 512MiB "), MemoryLimit::Bytes(512 << 20));
        assert_eq!(read("cgroup:90%"), MemoryLimit::CgroupShare(0.9));
        assert_eq!(
            complaint(read_limit(Some(b"much"))),
            "ebbtide: EBBTIDE_MEMORY_LIMIT=\"much\" ignored: expected bytes as in 512MiB (B, KiB, MiB, GiB, TiB), \
             cgroup:90% or off; no limit\n"
        );
        assert!(complaint(read_limit(Some(b"\xff"))).contains("\"\\xff\""));
        assert!(complaint(read_limit(Some(b"99999999TiB"))).contains("more bytes than 64 bits"));
    }

    #[test]
    fn topics_are_read() {
        let read = |text: &str| read_topics(Some(text.as_bytes())).ok().expect(text);
        assert_eq!(read_topics(None).ok(), Some(Topics::NONE));
        assert_eq!(read(""), Topics::NONE);
        assert_eq!(read("release, map"), Topics::RELEASE.with(Topics::MAP));
        assert_eq!(read("limit,"), Topics::LIMIT);
        assert_eq!(read("all"), Topics::ALL);
    }

    #[test]
    fn one_unknown_topic_spoils_the_list() {
        assert_eq!(
            complaint(read_topics(Some(b"release,gc"))),
            "ebbtide: EBBTIDE_TRACE=\"release,gc\" ignored: expected a list of release, map, limit and all; \
             tracing nothing\n"
        );
    }
}
