//! Parameters of programs: constants in `.rodata`, which an author changes in the object file. The result is another
//! program, with a hash and a signature of its own.

use std::{error, fmt};

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

/// Why a parameter can't be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError(String);

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for ParameterError {}

/// Returns the object with another value for its parameter `name`, a `const volatile` integer.
///
/// # Errors
/// The object is no ELF file, has no such parameter, or the value does not fit it.
pub fn set_parameter(object: &[u8], name: &str, value: u64) -> Result<Vec<u8>, ParameterError> {
    let wrong = |text: String| ParameterError(text);
    let file = ElfFile64::<Endianness>::parse(object).map_err(|error| wrong(format!("this is no object: {error}")))?;
    let section = file.section_by_name(".rodata").ok_or_else(|| wrong("the object has no parameters".to_owned()))?;
    let symbol = file
        .symbols()
        .find(|symbol| {
            symbol.section_index() == Some(section.index()) && symbol.name() == Ok(name) && symbol.size() > 0
        })
        .ok_or_else(|| wrong(format!("the object has no parameter {name}")))?;
    let (start, length) = section.file_range().unwrap_or_default();
    let size = usize::try_from(symbol.size()).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8));
    let size = size.ok_or_else(|| wrong(format!("{name} is no integer")))?;
    if size < 8 && value >> (8 * size) != 0 {
        return Err(wrong(format!("{value} does not fit {name}, which has {size} bytes")));
    }
    let is_inside = symbol.address().checked_add(symbol.size()).is_some_and(|end| end <= length);
    let at = start.checked_add(symbol.address()).and_then(|at| usize::try_from(at).ok()).filter(|_| is_inside);
    let mut changed = object.to_vec();
    let place = at.and_then(|at| changed.get_mut(at..)?.get_mut(..size));
    let place = place.ok_or_else(|| wrong(format!("{name} is outside of the object")))?;
    if file.is_little_endian() {
        place.copy_from_slice(&value.to_le_bytes()[..size]);
    } else {
        place.copy_from_slice(&value.to_be_bytes()[8 - size..]);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &[u8] = include_bytes!("../../bpf/multcp.o");

    #[test]
    fn a_parameter_is_changed_and_nothing_else() {
        let changed = set_parameter(OBJECT, "flows", 0x0102_0305).unwrap();
        let differing: Vec<usize> = (0..OBJECT.len()).filter(|at| OBJECT[*at] != changed[*at]).collect();
        let first = differing[0];
        assert!(differing.iter().all(|at| (first..first + 4).contains(at)), "{differing:?}");
        assert_eq!(changed[first..first + 4], [5, 3, 2, 1]);
        assert_eq!(set_parameter(&changed, "flows", 4).unwrap(), OBJECT);
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for name in ["", "no_such", "multcp", "_license", "multcp_init"] {
            assert!(set_parameter(OBJECT, name, 1).is_err(), "{name}");
        }
        assert!(set_parameter(OBJECT, "flows", 1 << 32).unwrap_err().to_string().contains("4 bytes"));
        for cut in 0..OBJECT.len() {
            _ = set_parameter(&OBJECT[..cut], "flows", 1);
        }
        assert!(set_parameter(b"text", "flows", 1).is_err());
    }
}
