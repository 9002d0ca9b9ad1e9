//! The system's random numbers, replaced in this program: libraries seed their hash maps, schedulers and names with them.
//!
//! The linker takes this function before the C library's. Outside of a simulation it asks the kernel.

use conveyor_model::simulation;

/// Fills a buffer with random bytes, as `getrandom(2)`.
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
#[inline(never)]
#[allow(unsafe_code, reason = "there is no other way to give libraries a seed")]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if !simulation::on() {
        // SAFETY: the arguments are passed on as they came.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
    }
    for at in 0..length {
        // SAFETY: the caller has room for `length` bytes.
        unsafe { buffer.add(at).write(simulation::next() as u8) };
    }
    length as isize
}
