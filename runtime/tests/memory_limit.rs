//! Setting the soft memory limit: what it takes, what it refuses, and what it then says; and the totals that it is about. One
//! test, since both are the process's.

use ebbtide::{LimitError, MemoryLimit};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const GIB: u64 = 1 << 30;

#[test]
fn limits_are_set_in_every_form_and_told_as_they_were_set() {
    ebbtide::set_memory_limit(None).expect("no limit");
    assert_eq!((ebbtide::memory_limit(), ebbtide::memory_limit_setting()), (None, MemoryLimit::None));
    assert_eq!(ebbtide::set_memory_limit(4 << 30), Ok(None));
    assert_eq!(ebbtide::set_memory_limit(Some(3 << 30)), Ok(Some(4 * GIB)));
    assert_eq!(ebbtide::set_memory_limit(MemoryLimit::Bytes(2 * GIB)), Ok(Some(3 * GIB)));
    assert_eq!(ebbtide::memory_limit_setting(), MemoryLimit::Bytes(2 * GIB));

    for share in [2.0, 0.0, -0.5, f64::INFINITY] {
        assert_eq!(ebbtide::follow_cgroup_limit(share), Err(LimitError::Share(share)));
        assert_eq!(ebbtide::set_memory_limit(MemoryLimit::CgroupShare(share)), Err(LimitError::Share(share)));
        assert_eq!(ebbtide::limit_from_cgroup(share), None);
    }
    assert!(ebbtide::follow_cgroup_limit(f64::NAN).is_err());
    assert_eq!(ebbtide::memory_limit_setting(), MemoryLimit::Bytes(2 * GIB), "nothing has changed");

    // Whether this control group has a limit or not, its share is followed.
    let limit = ebbtide::follow_cgroup_limit(0.9).expect("a share");
    assert_eq!(ebbtide::memory_limit(), limit);
    let followed = ebbtide::memory_limit_setting();
    assert_eq!(followed, MemoryLimit::CgroupShare(0.9));
    assert_eq!(ebbtide::set_memory_limit(Some(u64::MAX)), Ok(limit));
    assert_eq!(ebbtide::memory_limit_setting(), MemoryLimit::None, "as none");
    ebbtide::set_memory_limit(followed).expect("it was in force");
    assert_eq!(ebbtide::memory_limit_setting(), followed);
    ebbtide::set_memory_limit(None).expect("no limit");
    totals_are_told_without_a_walk();
}

fn totals_are_told_without_a_walk() {
    let before = ebbtide::usage();
    let block = vec![1_u8; 8 << 20];
    let after = ebbtide::usage();
    assert!(after.handed >= before.handed + block.len() as u64, "{before:?} {after:?}");
    assert!(after.total() > after.resident && after.resident >= after.idle());
}
