//! A server's place in a farm behind a load balancer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tcpls_core::token::TokenSecrets;
use tcpls_core::wire::ids::ServerId;

use super::Outcome;
use crate::net::{Farm, Listener, RateLimit, ServerOptions};
use crate::private;

/// A server's place in a farm, which is all servers behind one load balancer.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FarmArgs {
    /// File with the token secret, 64 hexadecimal digits ("openssl rand -hex 32"), the same at all servers of a farm; only
    /// its owner may read it. A second line has another secret, whose tokens are accepted, too, while the servers change
    /// to a new one. Default: a new secret at each start
    #[arg(long, value_name = "FILE")]
    pub token_secret: Option<PathBuf>,
    /// Number of this server in a farm, 0 to 65535; no other process has it at the same time
    #[arg(long, value_name = "NUMBER", requires = "token_secret", requires = "peer")]
    pub server_id: Option<u16>,
    /// A server of the farm, and the address of the farm's own network at which it takes joins that other servers pass on.
    /// Repeat it for all servers, this one included, which listens there. SIGHUP does not read the list again
    #[arg(long, value_name = "NUMBER=ADDRESS:PORT", requires = "server_id")]
    pub peer: Vec<PeerAt>,
    /// Joins that this server passes on for each client, which is an IPv4 address or a /64 of IPv6: how many at once, and
    /// then how many per second. Further ones are reset. Default: 1024,128
    #[arg(long, value_name = "BURST,PER_SECOND", requires = "server_id")]
    pub client_hand_over_rate: Option<HandOverRate>,
    /// The same for all clients together. Default: 8192,2000
    #[arg(long, value_name = "BURST,PER_SECOND", requires = "server_id")]
    pub hand_over_rate: Option<HandOverRate>,
    /// Joins that this server passes on at the same time, 1 to 1000000, each with 2 sockets and 104 KiB. Beyond that, one of
    /// the client that has most of them is reset. Default: 4096
    #[arg(long, value_name = "N", requires = "server_id", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_hand_overs: Option<u32>,
}

impl FarmArgs {
    /// Puts the place into a server's options.
    pub(crate) fn apply(&self, options: &mut ServerOptions) -> Outcome {
        let rates = [
            (&mut options.client_hand_over_rate, self.client_hand_over_rate),
            (&mut options.hand_over_rate, self.hand_over_rate),
        ];
        for (rate, chosen) in rates {
            *rate = chosen.map_or(*rate, |HandOverRate(chosen)| chosen);
        }
        options.max_hand_overs = self.max_hand_overs.map_or(options.max_hand_overs, |most| most as usize);
        options.token_secrets = self.secrets()?;
        options.farm = self.farm()?;
        Ok(())
    }

    /// Reads the secrets.
    fn secrets(&self) -> Outcome<Option<TokenSecrets>> {
        self.token_secret.as_deref().map(read).transpose()
    }

    /// Reads the secrets again. The result has a listener use them.
    pub(crate) fn read_again(&self) -> Outcome<impl FnOnce(&Listener) + use<>> {
        let secrets = self.secrets()?;
        Ok(move |listener: &Listener| secrets.into_iter().for_each(|secrets| listener.set_token_secrets(secrets)))
    }

    fn farm(&self) -> Outcome<Option<Farm>> {
        let Some(own) = self.server_id else { return Ok(None) };
        let mut peers = BTreeMap::new();
        for PeerAt { server, address } in &self.peer {
            if peers.insert(*server, *address).is_some() {
                return Err(format!("--peer names {server} twice; give each server a number of its own").into());
            }
        }
        let Some(listen) = peers.remove(&ServerId(own)) else {
            let hint = format!("add --peer {own}=ADDRESS:PORT, at which this server takes joins from the others");
            return Err(format!("no --peer has the number of this server ({own}); {hint}").into());
        };
        Ok(Some(Farm::new(ServerId(own), listen).with(|farm| farm.peers = peers)))
    }
}

/// A server of a farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAt {
    server: ServerId,
    address: SocketAddr,
}

impl FromStr for PeerAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write NUMBER=ADDRESS:PORT, for example 2=10.0.0.2:7443 or 2=[fd00::2]:7443";
        let (server, address) = text.split_once('=').ok_or(FORM)?;
        let (server, address) = (server.parse().map_err(|_| FORM)?, address.parse().map_err(|_| FORM)?);
        Ok(Self { server: ServerId(server), address })
    }
}

/// How many joins are passed on at once, and then per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOverRate(RateLimit);

impl FromStr for HandOverRate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write BURST,PER_SECOND, for example 1024,128: two numbers from 1 to 1000000";
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number)).ok_or(FORM);
        let (burst, per_second) = text.split_once(',').ok_or(FORM)?;
        Ok(Self(RateLimit::new(number(burst)?, Duration::from_secs(1) / number(per_second)?)))
    }
}

/// Reads a file with one secret or two.
fn read(path: &Path) -> Outcome<TokenSecrets> {
    let fails = |error: String| format!("can't use the token secret in {}: {error}", path.display());
    let text = private::read(path).map_err(|error| fails(error.to_string()))?;
    parse(&text).map_err(|error| fails(error.to_owned()).into())
}

/// One line for each secret; the first one seals.
fn parse(text: &str) -> Result<TokenSecrets, &'static str> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().ok_or("it is empty; make one with: openssl rand -hex 32")?;
    let secrets = TokenSecrets::new(secret(first)?);
    let secrets = match lines.next() {
        Some(second) => secrets.accepting(secret(second)?),
        None => secrets,
    };
    if lines.next().is_some() {
        Err("it has more than two lines: at most two secrets are in force")
    } else {
        Ok(secrets)
    }
}

fn secret(line: &str) -> Result<[u8; 32], &'static str> {
    const FORM: &str = "a line is not 64 hexadecimal digits; make one with: openssl rand -hex 32";
    let digits: Vec<u8> = line.chars().map_while(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    if digits.len() != 64 || line.len() != 64 {
        return Err(FORM);
    }
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect();
    bytes.try_into().map_err(|_| FORM)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tcpls_core::token::TokenSecret;
    use tcpls_core::wire::ids::SessionId;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: FarmArgs,
    }

    fn default_options() -> ServerOptions {
        let identity = crate::tls::Identity::self_signed(&["localhost".to_owned()]).unwrap();
        ServerOptions::new(identity.server(&[b"test"]).unwrap())
    }

    fn farm(line: &[&str]) -> Outcome<Option<Farm>> {
        Line::try_parse_from([&["serve"], line].concat())?.args.farm()
    }

    #[test]
    fn file_has_one_secret_or_two_of_which_the_first_seals() {
        let (one, two) = ("01".repeat(32), "aF".repeat(32));
        let session = SessionId([5; 12]);
        let [first, second] = [[1; 32], [0xaf; 32]].map(|secret| TokenSecret::new(secret).seal(session, 3));
        let secrets = parse(&format!("{one}\n\n  {two} \n")).unwrap();
        assert_eq!(secrets.sealing().seal(session, 3), first);
        assert_eq!([first, second].map(|token| secrets.open(&token)), [Some((session, 3)); 2]);
        assert_eq!(parse(&one).unwrap().open(&second), None);
        let wrong = [
            "".to_owned(),
            one[1..].to_owned(),
            format!("{one}0"),
            format!("{}g", &one[1..]),
            format!("+{}", &one[1..]),
            format!("{one}\nx"),
            format!("{one}\n{two}\n{one}"),
        ];
        for text in wrong {
            let error = parse(&text).unwrap_err();
            assert!(!error.contains("01"), "{error}");
        }
    }

    #[test]
    fn server_listens_where_its_own_number_is() {
        let line =
            ["--token-secret", "file", "--server-id", "2", "--peer", "1=10.0.0.1:7443", "--peer", "2=[fd00::2]:1"];
        let found = farm(&line).unwrap().unwrap();
        let expected = Farm::new(ServerId(2), "[fd00::2]:1".parse().unwrap());
        assert_eq!(found, expected.with(|farm| _ = farm.peers.insert(ServerId(1), "10.0.0.1:7443".parse().unwrap())));
        assert_eq!(farm(&[]).unwrap(), None);
        for (replaced, by, error) in [
            (7, "3=10.0.0.9:1", "no --peer has the number of this server (2)"),
            (7, "2=10.0.0.9:1", "--peer names server 2 twice"),
            (7, "65536=10.0.0.9:1", "write NUMBER=ADDRESS:PORT"),
            (7, "2=name:1", "write NUMBER=ADDRESS:PORT"),
            (3, "65536", "65536"),
        ] {
            let mut line = line.to_vec();
            line[replaced] = by;
            if error.contains("twice") {
                line.extend(["--peer", by]);
            }
            let found = farm(&line).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
        for incomplete in [&line[..4], &line[2..], &line[4..]] {
            assert!(farm(incomplete).is_err(), "{incomplete:?}");
        }
    }

    #[test]
    fn limits_of_hand_overs_are_those_of_the_options_and_else_the_defaults_in_the_help() {
        let of =
            |options: &ServerOptions| (options.client_hand_over_rate, options.hand_over_rate, options.max_hand_overs);
        let rate = |text: &str| text.parse::<HandOverRate>().map(|HandOverRate(rate)| rate);
        let mut options = default_options();
        Line::try_parse_from(["serve"]).unwrap().args.apply(&mut options).unwrap();
        assert_eq!(of(&options), (rate("1024,128").unwrap(), rate("8192,2000").unwrap(), 4096));
        let place = ["serve", "--token-secret", "file", "--server-id", "2", "--peer", "2=10.0.0.2:1"];
        let limits = ["--client-hand-over-rate", "10,5", "--hand-over-rate", "30,1000", "--max-hand-overs", "7"];
        let line = [&place[..], &limits].concat();
        let args = FarmArgs { token_secret: None, ..Line::try_parse_from(line).unwrap().args };
        args.apply(&mut options).unwrap();
        let millis = Duration::from_millis;
        assert_eq!(of(&options), (RateLimit::new(10, millis(200)), RateLimit::new(30, millis(1)), 7));
        for wrong in ["", "1", "1,", ",1", "0,1", "1,0", "-1,1", "1,1,1", "1000001,1", "1,1000001", "1 ,1"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        for alone in ["--client-hand-over-rate", "--hand-over-rate"] {
            assert!(Line::try_parse_from(["serve", alone, "1,1"]).is_err(), "{alone} is for farms");
        }
        assert!(Line::try_parse_from(["serve", "--max-hand-overs", "1"]).is_err(), "it is for farms");
        for (most, is_valid) in [("0", false), ("1", true), ("1000000", true), ("1000001", false)] {
            let line = [&place[..], &["--max-hand-overs", most]].concat();
            assert_eq!(Line::try_parse_from(line).is_ok(), is_valid, "{most}");
        }
    }
}
