//! HTTP for operators: probes and metrics.
