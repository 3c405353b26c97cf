//! The heap of the C library.

/// Lets all threads of the process allocate from two arenas. To be called before other threads are started.
///
/// By default glibc makes up to eight for each core, and each keeps what was freed in it: 40 MB more with 50 cameras and the console
/// (docs/performance.md). Other C libraries are left as they are.
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    set_max_arenas(2);
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate wraps this function of the C library")]
fn set_max_arenas(arenas: i32) {
    // SAFETY: it takes no pointers and moves no allocation.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
}
