//! Invalid settings.

use core::fmt;
use core::time::Duration;

/// An invalid setting, and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    bound: Bound,
}

/// The bound of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// At least this number, in the given unit.
    AtLeast(u64, &'static str),
    /// At most this number, in the given unit.
    AtMost(u64, &'static str),
    /// At least as much as another setting.
    NotBelow(&'static str),
    /// Less than another setting.
    Below(&'static str),
    /// Only together with another setting.
    Needs(&'static str),
}

impl ConfigError {
    /// Returns the error that the setting `field` violates `bound`.
    pub const fn new(field: &'static str, bound: Bound) -> Self {
        Self { field, bound }
    }

    /// Returns the name of the setting's field.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// Returns the bound of the setting.
    pub const fn bound(&self) -> Bound {
        self.bound
    }

    /// Checks that `value` is at least `least`, in `unit`.
    ///
    /// # Errors
    /// It is less.
    pub fn at_least(field: &'static str, value: u64, least: u64, unit: &'static str) -> Result<(), Self> {
        if value < least { Err(Self::new(field, Bound::AtLeast(least, unit))) } else { Ok(()) }
    }

    /// Checks the same of a time, in milliseconds.
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
            Bound::Needs(other) => write!(f, "{field} needs {other}"),
        }
    }
}

impl core::error::Error for ConfigError {}
