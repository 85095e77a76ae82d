//! Registers programs with the kernel (libbpf). Objects that arrive here are of the configuration, or signed.

use std::fmt::Write;

use libbpf_rs::btf::types::{DataSec, MemberAttr, Struct, Var};
use libbpf_rs::btf::{Btf, HasSize, ReferencesType};
use libbpf_rs::{MapCore, MapType, ObjectBuilder, OpenObject, PrintLevel, ProgramType, libbpf_sys, set_print};

use super::{ProgramId, ProgramName, Register};

/// The section of what is registered as a link, which the kernel removes with its process. Programs in `.struct_ops` would
/// outlive it.
const SECTION: &str = ".struct_ops.link";
const KIND: &str = "tcp_congestion_ops";
/// `TCP_CONG_NON_RESTRICTED`: sockets may select it without CAP_NET_ADMIN.
const NON_RESTRICTED: u32 = 1;
/// The length of a name in the kernel, with a zero.
const NAME_LEN: usize = 16;
/// The most that global variables of a program take, in bytes.
const MAX_VARIABLES: usize = 64 << 10;
/// Programs in an object: a congestion control has a dozen functions.
const MAX_FUNCTIONS: usize = 32;

/// The kernel of this host.
#[derive(Debug)]
pub struct Kernel(());

impl Kernel {
    /// Prepares libbpf, whose messages go to the log at the level `debug`.
    pub fn new() -> Self {
        set_print(Some((PrintLevel::Info, |_, text| {
            tracing::debug!(target: "tcpls", "libbpf: {}", text.trim_end());
        })));
        Self(())
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a program registered.
#[derive(Debug)]
pub struct Link {
    _link: libbpf_rs::Link,
}

impl Register for Kernel {
    type Link = Link;

    fn register(&mut self, id: &ProgramId, object: &[u8]) -> Result<(ProgramName, Link), String> {
        let layout = Layout::read(object)?;
        let mut open = ObjectBuilder::default().open_memory(object).map_err(|error| reason(&error))?;
        check(&open)?;
        let name = layout.adapt(&mut open, id)?;
        let mut object = open.load().map_err(|error| {
            format!("the kernel does not take it: {}; TCPLS_LOG=debug shows what the verifier says", reason(&error))
        })?;
        let mut maps = object.maps_mut();
        let mut map = maps.find(|map| map.map_type() == MapType::StructOps).ok_or("it registers nothing")?;
        let link = map.attach_struct_ops().map_err(|error| reason(&error))?;
        Ok((name, Link { _link: link }))
    }
}

/// An error with its causes, in one line.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        _ = write!(text, ": {error}");
        next = error.source();
    }
    text.replace('\n', " ")
}

/// Refuses objects that are or hold something else than one congestion control and its global variables.
fn check(open: &OpenObject) -> Result<(), String> {
    let functions = open.progs().count();
    if functions > MAX_FUNCTIONS || open.progs().any(|program| program.prog_type() != ProgramType::StructOps) {
        return Err(format!("it may have the functions of one congestion control only, at most {MAX_FUNCTIONS}"));
    }
    let (mut registered, mut variables) = (0, 0);
    for map in open.maps() {
        let size = u64::from(map.value_size()) * u64::from(map.max_entries());
        match map.map_type() {
            MapType::StructOps if map.map_flags() & libbpf_sys::BPF_F_LINK != 0 => registered += 1,
            MapType::StructOps => {
                return Err(format!("it must be in the section {SECTION}, or it would outlive the helper"));
            }
            // The name of a map of global variables has a dot, which none in C has.
            MapType::Array if map.name().as_encoded_bytes().contains(&b'.') => {
                variables += usize::try_from(size).unwrap_or(usize::MAX).min(MAX_VARIABLES + 1);
            }
            _ => return Err("it may have global variables, but no maps of its own".to_owned()),
        }
    }
    if registered != 1 {
        return Err(format!("it must have one congestion control, not {registered}"));
    }
    if variables > MAX_VARIABLES {
        return Err(format!("its global variables take more than {MAX_VARIABLES} bytes"));
    }
    Ok(())
}

/// Where an object has the name and the flags of its congestion control, in bytes.
struct Layout {
    name: usize,
    flags: usize,
}

impl Layout {
    /// Reads it from the object's type information.
    fn read(object: &[u8]) -> Result<Self, String> {
        let btf = Btf::from_raw("object", object).map_err(|error| reason(&error))?;
        let btf = btf.ok_or("it has no type information; build it with clang -g")?;
        let sections: Vec<DataSec<'_>> = btf.type_by_kind().collect();
        let mut kinds = sections
            .iter()
            .filter(|section| section.name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".struct_ops")))
            .flat_map(|section| section.iter().map(|variable| variable.ty).collect::<Vec<_>>());
        let (Some(only), None) = (kinds.next(), kinds.next()) else {
            return Err(format!("it must have one variable in the section {SECTION}"));
        };
        let variable: Var<'_> = btf.type_by_id(only).ok_or("its type information is damaged")?;
        let kind = Struct::try_from(variable.referenced_type().skip_mods_and_typedefs());
        let kind = kind.ok().filter(|kind| kind.name().is_some_and(|name| name == KIND));
        let kind = kind.ok_or_else(|| format!("it is no {KIND}"))?;
        let offset = |wanted: &str, len: usize| {
            let member = kind.iter().find(|member| member.name.is_some_and(|name| name == wanted));
            let offset = member.and_then(|member| match member.attr {
                MemberAttr::Normal { offset } => usize::try_from(offset / 8).ok(),
                MemberAttr::BitField { .. } => None,
            });
            let offset = offset.filter(|offset| offset.checked_add(len).is_some_and(|end| end <= kind.size()));
            offset.ok_or_else(|| format!("its {KIND} has no {wanted}"))
        };
        Ok(Self { name: offset("name", NAME_LEN)?, flags: offset("flags", size_of::<u32>())? })
    }

    /// Gives the congestion control its name, and permits its use without privilege.
    fn adapt(&self, open: &mut OpenObject, id: &ProgramId) -> Result<ProgramName, String> {
        let mut maps = open.maps_mut();
        let mut map = maps.find(|map| map.map_type() == MapType::StructOps).ok_or("it registers nothing")?;
        let value = map.initial_value_mut().ok_or("it has no value")?;
        let place = value.get_mut(self.name..self.name + NAME_LEN).ok_or("its type information is damaged")?;
        let stem = place.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = ProgramName::of(stem, id)?;
        place.fill(0);
        place[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        let flags = value.get_mut(self.flags..).and_then(|rest| rest.first_chunk_mut::<4>());
        let flags = flags.ok_or("its type information is damaged")?;
        *flags = (u32::from_ne_bytes(*flags) | NON_RESTRICTED).to_ne_bytes();
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    const MULTCP: &[u8] = include_bytes!("../../bpf/multcp.o");

    /// What `register` finds before it asks the kernel.
    fn checked(object: &[u8]) -> Result<ProgramName, String> {
        let layout = Layout::read(object)?;
        let mut open = ObjectBuilder::default().open_memory(object).map_err(|error| reason(&error))?;
        check(&open)?;
        layout.adapt(&mut open, &ProgramId::of(object))
    }

    /// The program in the repository, with another text of the same length in each place of the first.
    fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let (mut object, mut found) = (MULTCP.to_vec(), 0);
        for at in 0..object.len() - from.len() {
            if object[at..].starts_with(from) {
                object[at..at + to.len()].copy_from_slice(to);
                found += 1;
            }
        }
        assert!(found > 0, "{from:?}");
        object
    }

    /// The program in the repository, compiled with more at its end; `None`, with a note, if clang can't.
    fn compiled(name: &str, more: &str) -> Option<Vec<u8>> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
        let place = std::env::temp_dir().join(format!("tcpls-register-{}-{name}", std::process::id()));
        let (source, object) = (place.with_extension("c"), place.with_extension("o"));
        let text = std::fs::read_to_string(sources.join("multcp.bpf.c")).unwrap();
        std::fs::write(&source, text + more).unwrap();
        let mut line = Command::new("clang");
        line.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-w", "-I"]).arg(&sources);
        let output = line.arg("-c").arg(&source).arg("-o").arg(&object).output();
        let bytes = std::fs::read(&object);
        [source, object].iter().for_each(|file| _ = std::fs::remove_file(file));
        match output {
            Ok(output) if output.status.success() => Some(bytes.unwrap()),
            // The repository's own program: this clang has no BPF.
            Ok(output) if more.is_empty() => {
                println!("skipped: clang can't compile for BPF: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Ok(output) => panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                println!("skipped: clang can't be run ({error})");
                None
            }
        }
    }

    #[test]
    fn program_of_the_repository_passes_with_a_name_from_its_hash() {
        assert_eq!(checked(MULTCP).unwrap(), ProgramName::of(b"multcp", &ProgramId::of(MULTCP)).unwrap());
    }

    #[test]
    fn a_program_that_would_outlive_the_helper_is_refused() {
        let error = checked(&replaced(b".struct_ops.link", b".struct_ops\0link")).unwrap_err();
        assert!(error.contains("outlive"), "{error}");
    }

    #[test]
    fn a_program_without_type_information_or_of_another_struct_is_refused() {
        assert!(checked(&replaced(b".BTF\0", b".XTF\0")).is_err());
        let error = checked(&replaced(b"tcp_congestion_ops\0", b"tcp_congestion_opx\0")).unwrap_err();
        assert!(error.contains("no tcp_congestion_ops"), "{error}");
    }

    #[test]
    fn whatever_an_object_has_beside_one_congestion_control_is_refused() {
        let tracing = r#"SEC("kprobe/tcp_v4_connect") int probe(void *ctx) { return 0; }"#;
        let map = "struct { int (*type)[2]; int (*max_entries)[4]; int *key; int *value; } own SEC(\".maps\");";
        let second = r#"SEC(".struct_ops.link") struct tcp_congestion_ops second = { .name = "second" };"#;
        let functions = |count: usize| {
            let one = |number| format!("SEC(\"struct_ops/f{number}\") void f{number}(__u64 *ctx) {{}}\n");
            (0..count).map(one).collect::<String>()
        };
        // The program itself has four functions, and a parameter of four bytes.
        for (name, more, refused) in [
            ("nothing", String::new(), ""),
            ("tracing", tracing.to_owned(), "functions of one congestion control only"),
            ("map", map.to_owned(), "no maps of its own"),
            ("second", second.to_owned(), "one variable in the section"),
            ("functions", functions(28), ""),
            ("a function too many", functions(29), "at most 32"),
            ("variables", "char large[65532];".to_owned(), ""),
            ("a byte too many", "char large[65533];".to_owned(), "more than 65536 bytes"),
        ] {
            let Some(object) = compiled(name, more.as_str()) else { return };
            let outcome = checked(&object);
            match outcome {
                Ok(_) => assert_eq!(refused, "", "{name} is accepted"),
                Err(error) => assert!(!refused.is_empty() && error.contains(refused), "{name}: {error}"),
            }
        }
    }

    #[test]
    fn no_cut_or_changed_object_makes_the_check_panic() {
        for cut in (0..MULTCP.len()).step_by(97) {
            assert!(checked(&MULTCP[..cut]).is_err(), "{cut}");
        }
        for at in (0..MULTCP.len()).step_by(61) {
            let mut changed = MULTCP.to_vec();
            changed[at] ^= 0xff;
            _ = checked(&changed);
        }
    }
}
