//! What takes a guest down, or tries to: each in a form that the optimiser can't undo.

use std::hint::black_box;

/// Traps at once, without a word.
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort()
}

/// Never ends.
pub fn endless() -> ! {
    let mut round = 0_u64;
    loop {
        round = black_box(round.wrapping_add(1));
    }
}

/// Keeps the processor busy for some million rounds, and ends.
pub fn spin(millions: usize) {
    for round in 0..millions as u64 * 1_000_000 {
        black_box(round);
    }
}

/// Allocates some memory, and forgets it.
pub fn leak(mebibytes: usize) {
    black_box(Vec::<u8>::with_capacity(mebibytes << 20)).leak();
}

/// Allocates until that is denied, and dies of it as a Rust program does.
pub fn exhaust_memory() -> ! {
    loop {
        black_box(Vec::<u8>::with_capacity(1 << 20)).leak();
    }
}

/// Allocates until that is denied, and frees it all.
pub fn exhaust_memory_and_recover() {
    let mut blocks = Vec::new();
    loop {
        let mut block = Vec::<u8>::new();
        if block.try_reserve_exact(1 << 20).is_err() {
            break;
        }
        blocks.push(black_box(block));
    }
}

/// Recurses so many times, or until the machine's stack ends: each call needs next to nothing in the guest's memory.
pub fn recurse(times: Option<usize>) {
    fn deeper(left: u64) -> u64 {
        match black_box(left) {
            0 => left,
            // What is done with the result keeps the call from becoming a loop.
            left => deeper(left - 1).rotate_left(left as u32) ^ left,
        }
    }
    black_box(deeper(times.map_or(u64::MAX, |times| times as u64)));
}

/// Recurses until the stack in the guest's memory ends.
pub fn recurse_with_frames() {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 2048]);
        if depth == u64::MAX {
            return depth;
        }
        deeper(depth + 1).rotate_left(1) ^ black_box(&frame)[depth as usize % frame.len()]
    }
    black_box(deeper(0));
}
