//! Settings that cannot work.

use core::fmt;
use core::time::Duration;

/// A setting that cannot work, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    bound: Bound,
}

/// What a setting must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// At least this many, of what the unit says.
    AtLeast(u64, &'static str),
    /// At most this many, of what the unit says.
    AtMost(u64, &'static str),
    /// At least as much as another setting.
    NotBelow(&'static str),
    /// Less than another setting.
    Below(&'static str),
}

impl ConfigError {
    /// The setting `field` does not keep to `bound`.
    pub const fn new(field: &'static str, bound: Bound) -> Self {
        Self { field, bound }
    }

    /// The setting, as its field is called.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What it must be.
    pub const fn bound(&self) -> Bound {
        self.bound
    }

    /// An error unless `value` is at least `least` of what `unit` says.
    ///
    /// # Errors
    /// It is less.
    pub fn at_least(field: &'static str, value: u64, least: u64, unit: &'static str) -> Result<(), Self> {
        if value < least { Err(Self::new(field, Bound::AtLeast(least, unit))) } else { Ok(()) }
    }

    /// The same for a time, in milliseconds.
    ///
    /// # Errors
    /// It is shorter.
    pub fn lasts(field: &'static str, value: Duration, least: Duration) -> Result<(), Self> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self::at_least(field, millis(value), millis(least), "ms")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field;
        match self.bound {
            Bound::AtLeast(least, unit) => write!(f, "{field} must be at least {least} {unit}"),
            Bound::AtMost(most, unit) => write!(f, "{field} must be at most {most} {unit}"),
            Bound::NotBelow(other) => write!(f, "{field} must not be less than {other}"),
            Bound::Below(other) => write!(f, "{field} must be less than {other}"),
        }
    }
}

impl core::error::Error for ConfigError {}
