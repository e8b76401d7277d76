//! The feature `serde`: policies and limits as the texts that the environment takes, so that a program's own configuration
//! can hold them. No locks.

use super::memory_limit::MemoryLimit;
use super::setting::Policy;
use core::fmt;
use core::marker::PhantomData;
use core::str::FromStr;
use serde_core::de::{Deserialize, Deserializer, Error, Visitor};
use serde_core::ser::{Serialize, Serializer};

/// Reads the text form of a `T`.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as the environment variable takes it")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData))
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_what_they_were() {
        for policy in [Policy::Off, Policy::Percent(25), Policy::Background { percent: 5 }] {
            let text = serde_json::to_string(&policy).expect("text");
            assert_eq!(text, format!("\"{policy}\""));
            assert_eq!(serde_json::from_str::<Policy>(&text).expect("a policy"), policy);
        }
        for limit in [MemoryLimit::None, MemoryLimit::Bytes(1 << 30), MemoryLimit::CgroupShare(0.625)] {
            let text = serde_json::to_string(&limit).expect("text");
            assert_eq!(serde_json::from_str::<MemoryLimit>(&text).expect("a limit"), limit);
        }
        let error = serde_json::from_str::<MemoryLimit>("\"much\"").expect_err("no limit");
        assert!(error.to_string().starts_with("expected bytes as in 512MiB"), "{error}");
        assert!(serde_json::from_str::<Policy>("7").is_err());
    }
}
