//! Confines a worker: what a decoder's process can still do after [`confine`] is compute, use memory up to a limit, and talk on its socket. One that reads
//! a source can also read libraries and what its source needs (`source_cage`).
//!
//! Order matters. For decoders, plugins and libraries are loaded before, since afterwards no file can be opened; hostile data is read only after.
//!
//! Three layers, so that one that a kernel lacks leaves the others: Landlock (no files, no network, no signals to others), a seccomp filter (a short list of
//! system calls, none of which names a file, a process or an address), and resource limits. The filter answers `EPERM` to what it
//! does not list, because libraries try things they can do without, and kills at attempts to run or take over a program.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

use super::{protocol::Enforced, source_cage::SourceAccess};

/// Memory that a software decoder may take beyond what the loaded libraries need. An 8K picture needs about a third of it.
const MEMORY: u64 = 768 << 20;
/// Address space for the libraries that a source loads later.
const SOURCE_LIBRARIES: u64 = 1 << 30;
/// Descriptors of a worker. A pipeline takes about ten.
const FILES: u64 = 64;
const SOURCE_FILES: u64 = 256;
const HARDWARE_FILES: u64 = 512;

/// Device nodes that hardware decoders open. Those that do not exist are left out.
const DEVICES: [&str; 22] = [
    "/dev/dri",
    "/dev/nvidia0",
    "/dev/nvidia1",
    "/dev/nvidia2",
    "/dev/nvidia3",
    "/dev/nvidiactl",
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-caps",
    "/dev/nvhost-ctrl",
    "/dev/nvhost-nvdec",
    "/dev/nvhost-vic",
    "/dev/nvmap",
    "/dev/v4l",
    "/dev/v4l2-nvdec",
    "/dev/dma_heap",
    "/dev/mpp_service",
    "/dev/rga",
    "/dev/kfd",
    "/dev/null",
    "/dev/zero",
];
/// What their drivers read: libraries, their own settings, and the description of the hardware.
const DRIVER_FILES: [&str; 15] = [
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/drirc.d",
    "/usr/share/glvnd",
    "/usr/share/libdrm",
    "/usr/share/nvidia",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/nv_tegra_release",
    "/sys/bus",
    "/sys/class",
    "/sys/devices",
    "/proc/driver/nvidia",
];

/// What a worker is confined to.
pub(super) enum Cage {
    /// Memory and its socket.
    Decoder,
    /// The same, with devices and drivers.
    HardwareDecoder,
    /// The same as the first, with libraries and one source.
    Source(SourceAccess),
}

/// What the kernel enforces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confinement {
    pub(super) landlock: Enforced,
    pub(super) seccomp: Enforced,
}

/// Drops what a worker inherits beside its three standard descriptors, ends it with the daemon, and names it `name`, for `ps` and `top`. The first
/// call of a worker.
pub(super) fn shed(name: &str) -> io::Result<()> {
    set_name(name);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    close_from(3)?;
    limit(Resource::Core, 0)
}

#[expect(unsafe_code, reason = "std names new threads only")]
fn set_name(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else {
        return;
    };
    // SAFETY: the pointer is that of a string with its terminator, which outlives the call; the kernel copies at most 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Forks this process, which has one thread: the new one is a child of this one's parent, so that the daemon learns how it ends. `None` in the new one.
#[expect(unsafe_code, reason = "no crate wraps a fork of this kind")]
pub(super) fn fork() -> io::Result<Option<u32>> {
    if threads() != 1 {
        return Err(io::Error::other("the template has more than one thread"));
    }
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is fork(2) but for the parent: the new process has a copy of all memory and of the only thread, so
    // no lock is held by a thread that it lacks. What the C library would do beyond that concerns handlers (`pthread_atfork`), which reset the locks of threads, and
    // the cached thread id, which it uses as the owner of this thread's locks only.
    let id = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match u32::try_from(id) {
        Ok(0) => Ok(None),
        Ok(id) => Ok(Some(id)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Makes `fd` the standard input.
#[expect(
    unsafe_code,
    reason = "neither std nor rustix replaces a standard descriptor without another feature"
)]
pub(super) fn set_standard_input(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: no pointers. Descriptor 0 belongs to no object that closes it.
    match unsafe { libc::dup2(fd.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the memory that loading plugins took for a moment.
#[expect(unsafe_code, reason = "no crate wraps this function of the C library")]
pub(super) fn trim_heap() {
    // SAFETY: it takes no pointers, may be called at any time, and moves no allocation.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Closes every descriptor from `first` on.
#[expect(unsafe_code, reason = "neither std nor rustix wraps this system call")]
fn close_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: no arguments are pointers. The caller is at the start of the process, so no object owns one of the descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Kernels before 5.9 lack it. The daemon opens everything with CLOEXEC, so this is a second line.
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Ok(()),
        _ => Err(error),
    }
}

/// Confines the whole process, for good.
///
/// # Errors
/// A limit or filter that the kernel has cannot be set. A kernel without Landlock or seccomp is not an error; the result says so.
pub(super) fn confine(cage: &Cage) -> io::Result<Confinement> {
    // First what is read from /proc: nothing can be opened later.
    let (threads, memory) = (threads(), memory_in_use());
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let landlock = match restrict_access(cage) {
        // Landlock holds for the threads that the caller starts from now on; the filter below for all.
        Ok(_) if threads > 1 => Enforced::Partly,
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => Enforced::Fully,
            RulesetStatus::PartiallyEnforced => Enforced::Partly,
            RulesetStatus::NotEnforced => Enforced::No,
        },
        Err(_) => Enforced::No,
    };
    limit_resources(cage, memory)?;
    let seccomp = match filter_system_calls(cage) {
        Ok(()) => Enforced::Fully,
        // `CONFIG_SECCOMP_FILTER` is off, or an outer filter forbids it.
        Err(seccompiler::Error::Seccomp(_) | seccompiler::Error::Prctl(_)) => Enforced::No,
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    Ok(Confinement { landlock, seccomp })
}

/// Sets `PR_SET_NO_NEW_PRIVS` too.
fn restrict_access(cage: &Cage) -> Result<RestrictionStatus, RulesetError> {
    // As far as the kernel knows them.
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    match cage {
        Cage::Decoder => return ruleset.restrict_self(),
        Cage::Source(access) => return access.allow(ruleset)?.restrict_self(),
        Cage::HardwareDecoder => {}
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let video: Vec<String> = (0..64)
        .flat_map(|i| [format!("/dev/video{i}"), format!("/dev/media{i}")])
        .collect();
    ruleset
        .add_rules(path_beneath_rules(DRIVER_FILES, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(
            DEVICES,
            read | AccessFs::WriteFile | AccessFs::IoctlDev,
        ))?
        .add_rules(path_beneath_rules(
            video,
            read | AccessFs::WriteFile | AccessFs::IoctlDev,
        ))?
        .restrict_self()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count)
}

/// Bytes of address space and of private writable memory.
fn memory_in_use() -> Option<(u64, u64)> {
    let page = rustix::param::page_size() as u64;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_ascii_whitespace().map(str::parse::<u64>);
    Some((pages.next()?.ok()? * page, pages.nth(4)?.ok()? * page))
}

fn limit_resources(cage: &Cage, memory: Option<(u64, u64)>) -> io::Result<()> {
    // Not the number of processes: the kernel counts them for the whole user. The filter allows no new process.
    let (libraries, files) = match cage {
        // Drivers reserve many times the memory that there is, so only the daemon's own limits bound it.
        Cage::HardwareDecoder => return limit(Resource::Nofile, HARDWARE_FILES),
        Cage::Decoder => (0, FILES),
        Cage::Source(_) => (SOURCE_LIBRARIES, SOURCE_FILES),
    };
    let (address_space, data) = memory.ok_or_else(|| io::Error::other("cannot read /proc/self/statm"))?;
    limit(Resource::As, address_space + libraries + MEMORY)?;
    limit(Resource::Data, data + MEMORY)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, files)
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
    let limit = Rlimit {
        current: Some(hard),
        maximum: Some(hard),
    };
    Ok(setrlimit(resource, limit)?)
}

fn filter_system_calls(cage: &Cage) -> Result<(), seccompiler::Error> {
    let compiled = |rules, others, listed| {
        let arch = std::env::consts::ARCH.try_into()?;
        let filter: BpfProgram = SeccompFilter::new(rules, others, listed, arch)?.try_into()?;
        Ok::<_, seccompiler::BackendError>(filter)
    };
    let every = |calls: &[i64]| calls.iter().map(|call| (*call, Vec::new())).collect::<BTreeMap<_, _>>();
    let deadly = compiled(every(DEADLY), SeccompAction::Allow, SeccompAction::KillProcess)?;
    // Its flags lie in memory, where a filter cannot read them. The C library then uses clone.
    let missing = compiled(
        every(&[libc::SYS_clone3]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?;
    let mut allowed = every(ALLOWED);
    // No new code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allowed.insert(call, vec![masked(2, libc::PROT_EXEC as u64, 0)?]);
    }
    // Threads, but no processes.
    let thread = libc::CLONE_THREAD as u64;
    allowed.insert(libc::SYS_clone, vec![masked(0, thread, thread)?]);
    // Signals to its own threads, for abort().
    allowed.insert(libc::SYS_tgkill, vec![equal(0, std::process::id().into())?]);
    // GStreamer wakes its threads with them; they lead nowhere else.
    allowed.insert(libc::SYS_socketpair, vec![equal(0, libc::AF_UNIX as u64)?]);
    // Reading its own limits, not setting any.
    allowed.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![is(0, 0)?, is(2, 0)?])?]);
    let one_of = |argument, values: &[i32]| {
        let rules = values.iter().map(|value| equal(argument, *value as u64));
        rules.collect::<Result<Vec<_>, _>>()
    };
    // No F_SETOWN, which sends signals.
    let about_descriptors = [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
    ];
    allowed.insert(libc::SYS_fcntl, one_of(1, &about_descriptors)?);
    let about_names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
    allowed.insert(libc::SYS_prctl, one_of(0, &about_names)?);
    match cage {
        Cage::Decoder => {}
        Cage::HardwareDecoder => allowed.extend(every(ALLOWED_FOR_HARDWARE)),
        Cage::Source(access) => access.allow_calls(&mut allowed)?,
    }
    let allowed = compiled(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    // The list last, since it allows no further filter.
    for filter in [&deadly, &missing, &allowed] {
        apply_filter_all_threads(filter)?;
    }
    Ok(())
}

/// Allows a call if the bits `mask` of its argument have this value.
pub(super) fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![bits(argument, mask, value)?])
}

pub(super) fn bits(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

/// Allows a call if its argument has this value.
pub(super) fn equal(argument: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![is(argument, value)?])
}

pub(super) fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    // All 64 bits for a pointer, so that no half of one passes for null.
    let length = if value == 0 {
        SeccompCmpArgLen::Qword
    } else {
        SeccompCmpArgLen::Dword
    };
    SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)
}

/// Only an attack needs these.
const DEADLY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_mount,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
];

/// Computing, memory, threads, time, and the descriptors that it has.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3,
    libc::SYS_close,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    libc::SYS_dup,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Drivers open devices and libraries, within what Landlock leaves, and control the devices.
const ALLOWED_FOR_HARDWARE: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_get_mempolicy,
    libc::SYS_ioctl,
    libc::SYS_mbind,
    libc::SYS_memfd_create,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munlock,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_readlinkat,
    libc::SYS_sched_setaffinity,
    libc::SYS_statx,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];
