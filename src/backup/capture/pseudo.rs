//! File systems that hold no data.

use std::os::fd::OwnedFd;

use rustix::fs::fstatfs;

/// `f_type` of file systems that hold no data but views of the kernel's state: proc, sysfs, devpts, debugfs, tracefs,
/// securityfs, cgroup 1 and 2, bpf, pstore, efivarfs, configfs, selinuxfs, smackfs, mqueue, binfmt_misc, fusectl,
/// rpc_pipefs, nsfs, hugetlbfs. From `linux/magic.h`.
const PSEUDO_FILE_SYSTEMS: [u64; 20] = [
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x27_e0eb,
    0x6367_7270,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x6265_6570,
    0xf97c_ff8c,
    0x4341_5d53,
    0x1980_0202,
    0x4249_4e4d,
    0x6573_5543,
    0x6759_6969,
    0x6e73_6673,
    0x9584_58f6,
];

/// Whether an open directory lies on a view of the kernel's state.
pub(super) fn is_pseudo(fd: &OwnedFd) -> bool {
    // Wider on some processors than on others; the magic numbers have 32 bits.
    #[allow(clippy::cast_sign_loss, reason = "a magic number, not a quantity")]
    fstatfs(fd).is_ok_and(|system| PSEUDO_FILE_SYSTEMS.contains(&(system.f_type as u64 & 0xffff_ffff)))
}
