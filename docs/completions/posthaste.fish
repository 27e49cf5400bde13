# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_posthaste_global_optspecs
    string join \n h/help V/version
end

function __fish_posthaste_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_posthaste_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_posthaste_using_subcommand
    set -l cmd (__fish_posthaste_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c posthaste -n "__fish_posthaste_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c posthaste -n "__fish_posthaste_needs_command" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "run" -d 'Run the server in the foreground'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "check" -d 'Check a configuration (with its policies) or one policy, and start nothing'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "run-policy" -d 'Run the hooks of a policy over messages, without a server, and show what each hook did'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "test" -d 'Run the unit tests of policies: every `*_test.lua` below a folder'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "repl" -d 'A Lua prompt with the policy API, a session and a message at hand'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "console" -d 'Talk to a running server: one command, or a prompt with completion and history'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "trace" -d 'Show live what a running server\'s policy does: hooks, calls, times, verdicts'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "sink" -d 'Run a receiving server that takes, delays, defers or refuses mail: for tests and benchmarks'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "bench" -d 'Send generated mail to a server and measure it'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "spool" -d 'Look into, export or import a spool while the server is stopped'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "options" -d 'Print every configuration option'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "lua-api" -d 'Print every function of the Lua API that this build has, or what an editor needs to know them'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "version" -d 'Print the version'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "demo" -d 'Start a whole mail world on this machine, send mail through it, and show what happened'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "ctl" -d 'Start, stop or restart the server, as scripts for `ec_ctl` do; a service manager does it better'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "rotate" -d 'Move each log to LOG.1, LOG.1 to LOG.2 and so on, and have the server reopen its logs'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "show" -d 'Show a queued message: envelope, contexts, content'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "passwd" -d 'Print a user\'s line for a file of `digest://` or `file://` users; the password is read from standard input'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "dump-config" -d 'Print the effective configuration'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "docs" -d 'Write the generated pages: options, console, API, formats, man page, completions'
complete -c posthaste -n "__fish_posthaste_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c posthaste -n "__fish_posthaste_using_subcommand run" -s c -l config -d 'The configuration file' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand run" -s n -d 'Leave out a service: esmtp (no listener) or queue (no delivery)' -r -f -a "esmtp\t''
ecstream\t''
queue\t''"
complete -c posthaste -n "__fish_posthaste_using_subcommand run" -s d -l debug -d 'Stay in the foreground and write diagnostics to stderr too'
complete -c posthaste -n "__fish_posthaste_using_subcommand run" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand run" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand check" -s v -l verbose -d 'Also list options that are accepted and have no effect, and uses of the policy API that work and are not documented'
complete -c posthaste -n "__fish_posthaste_using_subcommand check" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand check" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -s m -l message -d 'A message, an mbox, a maildir or a folder of messages; `-` is standard input' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l from -d 'The sender of the envelope; by default the message\'s Return-Path or From' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l to -d 'A recipient of the envelope, once for each; by default the message\'s Delivered-To, or To and Cc' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l ip -d 'The client\'s address' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l helo -d 'The client\'s name in EHLO' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l hostname -d 'Our own host name' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l context -d 'A value of the connection\'s context, as a listener or an authentication would set it' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l dns -d 'Look names up in the DNS; without it no name exists'
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -l json -d 'As JSON, with the messages'
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand run-policy" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand test" -l policy -d 'The script or configuration that is tested' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand test" -l filter -d 'Only tests whose name has this text in it' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand test" -l junit -d 'Write a report in JUnit\'s XML' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand test" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand test" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand repl" -s m -l message -d 'The message that `msg` is' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand repl" -l phase -d 'The phase that the prompt is in, as the API reference names it' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand repl" -l dns -d 'Look names up in the DNS; without it no name exists'
complete -c posthaste -n "__fish_posthaste_using_subcommand repl" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand repl" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand console" -l socket -d 'A unix socket\'s path, host:port, or user@host:port' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand console" -s c -l command -d 'One command; its output is all that is printed' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand console" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand console" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l socket -d 'A unix socket\'s path, host:port, or user@host:port' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l hook -d 'Only this hook' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l module -d 'Only this module, as `msys.registerModule` named it' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l from -d 'Only mail of this sender' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l to -d 'Only mail to this recipient' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l ip -d 'Only clients of this address or network' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -l json -d 'As JSON, one event a line'
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand trace" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l listen -d 'Where to listen; port 0 takes a free one and prints it' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l defer -d 'Put recipients of this pattern off with 451 (may be given more than once)' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l defer-times -d 'Put each of them off so often, then take them; 0: always' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l defer-percent -d 'Put off so many of a hundred messages with 451 after the data, at random' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l refuse -d 'Refuse recipients of this pattern with 550' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l delay-ms -d 'Wait so long before the reply to the data' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l store -d 'Write each message into this folder' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l ids -d 'At the end, write the load ids that came, and how often, into this file' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l no-pipelining -d 'Do not offer PIPELINING'
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -l quiet -d 'Print nothing but the address and the final statistics'
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand sink" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l to -d 'The server to send to' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l sessions -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l messages -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l size -d 'Octets of one message' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l rate -d 'Messages a second over all sessions; 0: as fast as it goes' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l recipients -d 'Recipients of each message' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l domains -d 'Number of recipient domains' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l domain -d 'The recipients\' domain (its parent, with --domains)' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l sender -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l first-id -d 'The first load id' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l seconds -d 'Stop after so many seconds' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l ids -d 'Write the load ids that were acknowledged into this file' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l verify -d 'Afterwards, compare the ids in --ids with those that a sink wrote into this file; fail when one is lost or doubled' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l pipelining -d 'Send MAIL, RCPT and DATA in one packet'
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l connection-each -d 'A new connection for each message'
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l verify-only -d 'Send nothing; only compare as --verify says'
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -l json -d 'Print the report as JSON'
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand bench" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and not __fish_seen_subcommand_from check export import" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and not __fish_seen_subcommand_from check export import" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and not __fish_seen_subcommand_from check export import" -f -a "check" -d 'Verify every record; changes nothing'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and not __fish_seen_subcommand_from check export import" -f -a "export" -d 'Write every queued message as an `.eml` and a `.json` file'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and not __fish_seen_subcommand_from check export import" -f -a "import" -d 'Take in what `export` wrote'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and __fish_seen_subcommand_from check" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand spool; and __fish_seen_subcommand_from import" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand options" -l json -d 'As JSON'
complete -c posthaste -n "__fish_posthaste_using_subcommand options" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand options" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand lua-api" -l json -d 'As JSON'
complete -c posthaste -n "__fish_posthaste_using_subcommand lua-api" -l stubs -d 'The declarations for the Lua language server'
complete -c posthaste -n "__fish_posthaste_using_subcommand lua-api" -l plugin -d 'The plugin for the Lua language server that makes it read the dialect'
complete -c posthaste -n "__fish_posthaste_using_subcommand lua-api" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand lua-api" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand version" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand version" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand demo" -l messages -d 'How many messages to send' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand demo" -l keep -d 'Keep the demo\'s folder, and say where it is'
complete -c posthaste -n "__fish_posthaste_using_subcommand demo" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand demo" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand ctl" -s c -l config -d 'The configuration file; without it the file that `run` would take' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand ctl" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand ctl" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s l -l logfile -d 'A log; without it all those of the configuration' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -l config -d 'The configuration file of the server; without it the file that `run` would take' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s r -l retention -d 'How many old ones of each log are kept' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s s -l socket -d 'The control socket; without it that of the configuration' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s c -l compress -d 'A program that compresses the file it is given, such as /usr/bin/bzip2' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s n -l nocompress -d 'Do not compress: the default'
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand rotate" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand show" -s m -l message -d 'The message\'s id' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand show" -s c -l config -d 'The configuration file of the server; without it the file that `run` would take' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand show" -l socket -d 'The control socket; without it that of the configuration' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand show" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand show" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand passwd" -s f -l file -d 'Write the line into this file, in place of the user\'s last one' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand passwd" -s r -l realm -d 'The realm of DIGEST-MD5' -r
complete -c posthaste -n "__fish_posthaste_using_subcommand passwd" -l clear -d 'A clear-text line for `file://` in place of a digest'
complete -c posthaste -n "__fish_posthaste_using_subcommand passwd" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand passwd" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand dump-config" -s v -l verbose -d 'Also list options that are accepted and have no effect, and uses of the policy API that work and are not documented'
complete -c posthaste -n "__fish_posthaste_using_subcommand dump-config" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand dump-config" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand docs" -l write -d 'The folder of the pages' -r -F
complete -c posthaste -n "__fish_posthaste_using_subcommand docs" -l check -d 'Compare instead of writing; exits with 1 when a page is out of date'
complete -c posthaste -n "__fish_posthaste_using_subcommand docs" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand docs" -s V -l version -d 'Print version'
complete -c posthaste -n "__fish_posthaste_using_subcommand completions" -s h -l help -d 'Print help'
complete -c posthaste -n "__fish_posthaste_using_subcommand completions" -s V -l version -d 'Print version'
