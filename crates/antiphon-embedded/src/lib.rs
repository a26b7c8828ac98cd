//! Engine and journal in this process, behind the broker seam.
