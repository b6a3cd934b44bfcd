//! Figures of oob, measured against named limits.
