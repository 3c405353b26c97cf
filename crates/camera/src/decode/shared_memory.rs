//! Memory shared by the daemon and a decode worker: a memfd whose size is sealed, and its mappings.

#![expect(
    unsafe_code,
    reason = "mapping memory is unsafe, and no safe wrapper allows another process to write to it"
)]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    ptr::NonNull,
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fstat, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// Creates shared memory of `len` bytes, all of them allocated, so that no access fails later. Its size cannot be changed.
pub(super) fn create(len: usize) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know NOEXEC_SEAL.
    let fd = memfd_create(c"gridwatch-decode", flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create(c"gridwatch-decode", flags))?;
    ftruncate(&fd, len as u64)?;
    fallocate(&fd, FallocateFlags::empty(), 0, len as u64)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// A mapping of a whole memfd.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` only gives out `&[u8]`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `fd` for reading. The other process may be writing.
    pub(super) fn read_only(fd: impl AsFd) -> io::Result<Self> {
        Self::new(fd, ProtFlags::READ)
    }

    /// Maps `fd` for reading and writing.
    pub(super) fn writable(fd: impl AsFd) -> io::Result<WritableMapping> {
        Self::new(fd, ProtFlags::READ | ProtFlags::WRITE).map(WritableMapping)
    }

    fn new(fd: impl AsFd, access: ProtFlags) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "shared memory without a size");
        let len = usize::try_from(fstat(&fd)?.st_size).map_err(|_| invalid())?;
        if len == 0 {
            return Err(invalid());
        }
        // SAFETY: the kernel chooses the address, so no other object is overlaid. The size of the memory is sealed, so every
        // byte of the mapping stays accessible until it is unmapped in `drop`.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, &fd, 0)? };
        let start = NonNull::new(start.cast()).ok_or_else(invalid)?;
        Ok(Self { start, len })
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` are mapped, readable and initialised for as long as `self` lives. The daemon has a buffer written
        // only between handing it to a worker and the worker's answer, and it is not read then. A worker that has been taken over may write
        // at other times; then the bytes are not those of a picture, but every bit pattern is a valid `u8`, and no size, offset or
        // address is ever read from this memory.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this address and length, and no reference outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A [`Mapping`] that may be written to.
#[derive(Debug)]
pub(super) struct WritableMapping(Mapping);

impl WritableMapping {
    pub(super) fn len(&self) -> usize {
        self.0.len
    }
}

impl AsRef<[u8]> for WritableMapping {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl AsMut<[u8]> for WritableMapping {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`; mapped writable, and `&mut self` makes this the only reference in this process.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_writes_another_reads_and_the_size_is_fixed() {
        let fd = create(5000).unwrap();
        let reader = Mapping::read_only(&fd).unwrap();
        let mut writer = Mapping::writable(&fd).unwrap();
        writer.as_mut()[4999] = 7;
        assert_eq!((reader.len(), reader.as_ref()[4999], writer.as_ref()[0]), (5000, 7, 0));
        assert!(ftruncate(&fd, 10).is_err() && ftruncate(&fd, 10_000).is_err());
        assert!(fcntl_add_seals(&fd, SealFlags::WRITE).is_err(), "no more seals");
    }
}
