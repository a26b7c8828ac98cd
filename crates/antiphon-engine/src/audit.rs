//! What is counted along the way, counted anew from the calls: the two must agree at any time.

use crate::Engine;
use alloc::format;
use alloc::string::String;

impl Engine {
    /// Compares every running count with what it counts. For tests: it looks at every call.
    ///
    /// # Errors
    /// Which count is off, in words.
    pub fn audit(&self) -> Result<(), String> {
        let (mut unsettled, mut reserved) = (0, 0);
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.slot(index) else { continue };
            if !call.state.is_settled() {
                unsettled += 1;
                reserved += u64::from(self.weight(index) - 1);
            }
        }
        if unsettled != self.unsettled {
            return Err(format!("{unsettled} calls are not settled, {} are counted", self.unsettled));
        }
        if reserved != self.reserved {
            return Err(format!("{reserved} calls are reserved, {} are counted", self.reserved));
        }
        Ok(())
    }
}
