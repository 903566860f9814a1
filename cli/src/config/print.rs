//! The configuration that `capmux config` prints.

use super::protocol_table::PROTOCOL;
use super::setting::{Change, Setting, Unset};
use super::table::{NODE, SECTIONS};

const HEAD: &str = "\
# A configuration for `capmux node --config FILE`; `capmux config --check FILE` checks one.
#
# What stands here is what holds without it. To change a setting, remove the # before its name. Times are texts with a
# unit (\"500ms\", \"15s\", \"2m\"), sizes are numbers of bytes or texts with a unit (\"64KiB\", \"1MiB\"). A reload (SIGHUP)
# puts into force what is marked [live]; all else waits for the next start. The command line overrides this file.
";

const PROTOCOLS: &str = "
# A protocol to run, several times for several. Peers that share none are disconnected.
#[[protocol]]
";

/// All settings, as comments with the defaults.
pub(super) fn default_file() -> String {
    let mut file = HEAD.to_owned();
    for (section, about) in SECTIONS {
        file += &format!("\n# {about}\n[{section}]\n");
        let own = |setting: &Setting<_>| setting.key.strip_prefix(section)?.strip_prefix('.');
        file.extend(NODE.iter().filter_map(|setting| Some(lines(own(setting)?, setting))));
    }
    file += PROTOCOLS;
    file.extend(PROTOCOL.iter().map(|setting| lines(setting.key, setting)));
    file
}

/// A setting, after what it means.
fn lines<T>(name: &str, setting: &Setting<T>) -> String {
    let live = if setting.change == Change::Restart { "" } else { " [live]" };
    let about: String = setting.about.lines().map(|line| format!("\n# {line}")).collect();
    let Setting { unset, rule, .. } = setting;
    let allowed = rule.allowed();
    match unset {
        Unset::Default(value) => format!("{about}{live}\n# Allowed: {allowed}.\n#{name} = {value}\n"),
        Unset::Nothing { means, example } => {
            format!(
                "{about}{live}\n# Allowed: {allowed}.\n# If not given: {means}.\n# For example: {name} = {example}\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use capmux::{NodeKey, Server};

    use super::super::file::Config;
    use super::super::plan::{Plan, ProtocolName};
    use super::*;

    /// The printed file with everything in it in force; with the examples, too, if they are wanted.
    fn uncommented(with_examples: bool) -> String {
        let file = default_file();
        let lines = file.lines().filter_map(|line| match line.strip_prefix("# For example: ") {
            Some(example) => with_examples.then_some(example),
            None if line.starts_with("# ") || line == "#" => None,
            None => Some(line.strip_prefix('#').unwrap_or(line)),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("printed"), text).unwrap_or_else(|problems| panic!("{:?}", problems.lines()))
    }

    #[test]
    fn what_is_printed_says_nothing_as_long_as_it_is_commented() {
        let config = parse(&default_file());
        assert!(config.changes(&Config::default()).is_empty());
        assert!(Config::default().changes(&config).is_empty());
    }

    #[test]
    fn what_is_printed_are_the_defaults_of_the_library() {
        let text = uncommented(false).replace("[[protocol]]", "[[protocol]]\nname = \"echo\"");
        let (key, config) = (NodeKey::random(), parse(&text));
        let printed = config.plan();
        let mut defaults = Config::default().plan();
        let library = Server::builder(key.clone());
        assert_eq!(format!("{:?}", defaults.builder(key.clone())), format!("{library:?}"));
        defaults.protocol(ProtocolName::Echo);
        assert_eq!(format!("{:?}", printed.builder(key.clone())), format!("{:?}", defaults.builder(key)));
        assert_eq!(printed.listen, defaults.listen);
        assert_eq!(nodes(&printed), nodes(&defaults));
    }

    #[test]
    fn every_example_is_allowed_and_every_setting_is_printed() {
        let text = uncommented(true);
        let config = parse(&text);
        for key in NODE.iter().map(|setting| setting.key.to_owned()) {
            assert!(config.find(&key).is_some(), "{key}: {text}");
        }
        for key in PROTOCOL.iter().map(|setting| format!("protocol.echo.{}", setting.key)) {
            assert!(config.find(&key).is_some(), "{key}: {text}");
        }
    }

    /// A setting as the README lists it.
    fn listed<T>(key: &str, setting: &Setting<T>) -> String {
        let value = match &setting.unset {
            Unset::Default(value) => format!("`{value}`"),
            Unset::Nothing { means, .. } => format!("none: {means}"),
        };
        let change = if setting.change == Change::Restart { "restart" } else { "live" };
        format!("| `{key}` | {value} | {change} |")
    }

    #[test]
    fn the_readme_lists_all_settings() {
        let readme = include_str!("../../README.md");
        let protocols = PROTOCOL.iter().map(|setting| listed(&format!("protocol.{}", setting.key), setting));
        let all: Vec<_> = NODE.iter().map(|setting| listed(setting.key, setting)).chain(protocols).collect();
        assert!(readme.contains(&all.join("\n")), "cli/README.md needs these lines:\n{}", all.join("\n"));
    }

    /// All that a configuration comes to, as text.
    fn effect(text: &str) -> String {
        let plan = parse(text).plan();
        let key = NodeKey::from_bytes(&[7; 32]).expect("a key");
        let files = format!("{:?} {:?} {:?}", plan.listen, plan.data_dir, plan.key);
        format!("{:?} {files} {}", plan.builder(key), nodes(&plan))
    }

    /// What a plan has of other nodes.
    fn nodes(plan: &Plan) -> String {
        let Plan { persistent, private, bootnodes, book_capacity, save_interval, has_pex, pex, .. } = plan;
        format!("{persistent:?} {private:?} {bootnodes:?} {book_capacity} {save_interval:?} {has_pex} {pex:?}")
    }

    /// A value that is not the default, as TOML.
    fn another<T>(setting: &Setting<T>) -> String {
        let enode = format!("[\"enode://{}@127.0.0.1:1\"]", NodeKey::random().public_key());
        let Unset::Default(default) = setting.unset else {
            let Unset::Nothing { example, .. } = setting.unset else { unreachable!() };
            return example.to_owned();
        };
        let values = ["77", "true", "0.5", "\"77s\"", "\"fibonacci\"", "\"127.0.0.1:7\"", "\"text\"", &enode];
        let allowed = |text: &&&str| {
            let value = toml::de::DeValue::parse(text).expect("TOML");
            **text != default && setting.rule.read(value.get_ref()).is_some()
        };
        values.iter().find(allowed).unwrap_or_else(|| panic!("a value for {}", setting.key)).to_string()
    }

    #[test]
    fn every_setting_has_an_effect() {
        for setting in NODE {
            let text = format!("{} = {}", setting.key, another(setting));
            assert_ne!(effect(&text), effect(""), "{text}");
        }
        let protocol = "[[protocol]]\nname = \"gossip\"\n";
        for setting in &PROTOCOL[1..] {
            let larger = if setting.key.ends_with("_bytes") { "\"2MiB\"".to_owned() } else { another(setting) };
            let larger = if setting.key == "max_message_size" { "\"2MiB\"".to_owned() } else { larger };
            let text = format!("{protocol}{} = {larger}", setting.key);
            assert_ne!(effect(&text), effect(protocol), "{text}");
        }
    }

    #[test]
    fn the_defaults_of_the_protocols_are_as_the_table_says() {
        for name in ["echo", "gossip", "kv"] {
            let protocol = format!("[[protocol]]\nname = \"{name}\"\n");
            let defaults = PROTOCOL.iter().filter_map(|setting| match setting.unset {
                Unset::Default(value) => Some(format!("{} = {value}\n", setting.key)),
                Unset::Nothing { .. } => None,
            });
            let given = format!("{protocol}{}", defaults.collect::<String>());
            assert_eq!(effect(&given), effect(&protocol), "{given}");
        }
    }
}
