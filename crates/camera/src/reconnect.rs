//! When to reconnect to a camera.

use std::time::Duration;

use gridwatch_base::backoff::Backoff;

/// First delay. A camera that only closed the connection is back at once; a rebooting one takes a minute anyway.
const FIRST: Duration = Duration::from_millis(500);
/// Longest delay. A camera that comes back is seen within half a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// A connection that delivered pictures for this long was healthy.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);

/// The backoff between connections to one camera.
pub(super) fn reconnect_backoff() -> Backoff {
    Backoff::new(FIRST, LONGEST)
}
