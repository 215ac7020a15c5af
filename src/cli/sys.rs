//! What a command asks of the allocator before it reads a large stack.

/// A third of what a large stack is given at once, in bytes, of which only what it fills becomes memory.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 31 << 20;
/// The most that glibc takes for M_MMAP_THRESHOLD. [`LARGE`] bytes and what malloc adds to them stay below it: else they
/// would be a mapping of their own, and the heap would not grow.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 32 << 20;

/// Makes ready for a large stack, whose tree is made and freed several times over: keeps what is freed (mallopt(3)), and
/// grows the heap by a part that huge pages may back (madvise(2), MADV_HUGEPAGE), so that there is a page fault for
/// each 2 MiB instead of each 4 KiB. A small stack would pay for pages that it does not fill. Where huge pages are off,
/// nothing changes.
pub(super) fn expect_much_memory() {
    #[cfg(target_env = "gnu")]
    {
        let settings = [
            (libc::M_TRIM_THRESHOLD, 1 << 30),
            (libc::M_TOP_PAD, 2 * LARGE),
            (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        ];
        for (parameter, bytes) in settings {
            // SAFETY: no memory is passed.
            unsafe { libc::mallopt(parameter, bytes) };
        }
        // SAFETY: asks for the end of the data segment only.
        let before = unsafe { libc::sbrk(0) };
        // The compiler must not find that nobody uses it.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE.unsigned_abs() as usize)));
        // SAFETY: as above.
        let after = unsafe { libc::sbrk(0) };
        let grown = after.addr().saturating_sub(before.addr());
        // SAFETY: the data segment grew by these bytes, and the advice changes nothing that a program can see; a range
        // that does not begin at a page is refused.
        unsafe { libc::madvise(before, grown, libc::MADV_HUGEPAGE) };
    }
}
