//! The name of the machine.

/// As the kernel has it; `localhost` where it has none.
pub(crate) fn name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty() && name != "(none)")
        .unwrap_or_else(|| "localhost".into())
}
