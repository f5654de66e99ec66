//! Being told to stop: Ctrl-C, or SIGTERM.

use std::io;

/// Waits until the process is told to stop. From the first call on, that no longer kills it: whoever
/// waits more than once must keep the future, or miss what comes between two.
///
/// # Errors
/// When the system does not let us listen.
pub(crate) async fn told_to_stop() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
