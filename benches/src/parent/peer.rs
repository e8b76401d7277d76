//! The allocators that are compared.

/// One allocator, and the example program that runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The column's name.
    pub name: &'static str,
    /// The example that has it as its global allocator.
    pub example: &'static str,
    /// Cargo features of this package that the example needs.
    pub features: &'static [&'static str],
    /// What its "release now" is.
    pub release_call: &'static str,
}

/// The one that the ratios are about.
pub const EBBTIDE: &str = "ebbtide";

const GLIBC: Peer =
    Peer { name: "glibc", example: "program_glibc", features: PEERS, release_call: "malloc_trim(0)" };
const EBBTIDE_PEER: Peer =
    Peer { name: EBBTIDE, example: "program_ebbtide", features: PEERS, release_call: "free_os_memory()" };

#[cfg(feature = "peers")]
const PEERS: &[&str] = &["peers"];
#[cfg(not(feature = "peers"))]
const PEERS: &[&str] = &[];

/// All allocators that this build compares, ebbtide last.
#[cfg(feature = "peers")]
pub const ALL: &[Peer] = &[
    GLIBC,
    Peer {
        name: "mimalloc2",
        example: "program_mimalloc2",
        features: &["mimalloc2"],
        release_call: "mi_collect(true)",
    },
    Peer {
        name: "mimalloc3",
        example: "program_mimalloc3",
        features: PEERS,
        release_call: "mi_collect(true)",
    },
    Peer {
        name: "jemalloc",
        example: "program_jemalloc",
        features: PEERS,
        release_call: "thread.tcache.flush, arena.4096.purge",
    },
    Peer {
        name: "tcmalloc",
        example: "program_tcmalloc",
        features: PEERS,
        release_call: "ReleaseCpuMemory(all), ReleaseMemoryToSystem(max)",
    },
    EBBTIDE_PEER,
];

/// All allocators that this build compares, ebbtide last.
#[cfg(not(feature = "peers"))]
pub const ALL: &[Peer] = &[GLIBC, EBBTIDE_PEER];
