//! What the ClientHello of `get` has besides the usual: `--cert-compression` and `--ech`, in builds that can.

#[cfg(feature = "aws-lc-rs")]
use std::path::PathBuf;

use super::Outcome;
#[cfg(feature = "aws-lc-rs")]
use crate::tls::Ech;
use crate::tls::TlsOptions;

/// Extensions of the ClientHello.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HelloArgs {
    /// Offer to decompress the server's certificates (RFC 8879), and compress the client's if the server can decompress it
    #[cfg(feature = "cert-compression")]
    #[arg(long)]
    pub cert_compression: bool,
    /// Hide the server's name by Encrypted ClientHello (RFC 9849). FILE has the server's configurations (ECHConfigList) as
    /// bytes, base64 as in its HTTPS record in DNS, or PEM. GREASE only pretends to hide it, with a random key
    #[cfg(feature = "aws-lc-rs")]
    #[arg(long, value_name = "FILE|GREASE")]
    pub ech: Option<EchSource>,
}

impl HelloArgs {
    pub(crate) fn options(&self) -> Outcome<TlsOptions> {
        let options = TlsOptions::default();
        #[cfg(feature = "cert-compression")]
        let options = options.with(|options| options.cert_compression = self.cert_compression);
        #[cfg(feature = "aws-lc-rs")]
        let ech = self.ech.as_ref().map(EchSource::read).transpose()?;
        #[cfg(feature = "aws-lc-rs")]
        let options = options.with(|options| options.ech = ech);
        Ok(options)
    }
}

/// Where the configuration of Encrypted ClientHello comes from.
#[cfg(feature = "aws-lc-rs")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EchSource {
    /// A file.
    File(PathBuf),
    /// There is none.
    Grease,
}

#[cfg(feature = "aws-lc-rs")]
impl From<std::ffi::OsString> for EchSource {
    fn from(text: std::ffi::OsString) -> Self {
        if text == "GREASE" { Self::Grease } else { Self::File(text.into()) }
    }
}

#[cfg(feature = "aws-lc-rs")]
impl EchSource {
    fn read(&self) -> Outcome<Ech> {
        Ok(match self {
            Self::File(path) => Ech::from_file(path)?,
            Self::Grease => Ech::grease()?,
        })
    }
}
