//! Loading: where scripts are looked for, what refuses a load, `init`, `require`.

mod common;

use common::{Site, module};
use ph_policy::HookCall;

#[tokio::test]
async fn what_is_wrong_at_load_is_said_with_script_and_line() {
    for (source, want) in [
        ("x = = 1", "script \"policy\" (test.conf:1): policy.lua:1: "),
        ("\n\nlocal x = nil + 1", "policy.lua:3: attempt to perform arithmetic on"),
        ("error('of its own')", "policy.lua:1: of its own"),
        ("local function f() error('deep') end\nf()", "stack traceback"),
        (
            "msys.registerModule('m', { init = function() return 1 end })",
            "init of module \"m\" must return true, got 1",
        ),
        ("msys.registerModule('m', { init = function() end })", "init of module \"m\" must return true, got nothing"),
        ("msys.registerModule('m', { init = function() error('no') end })", "init of module \"m\": policy.lua:1: no"),
        (
            "msys.registerModule(1, {})\nmsys.registerModule('x')",
            "bad argument #2 to 'msys.registerModule' (table expected, got nil)",
        ),
        ("msys.core.dumb()", "policy.lua:1: attempt to call field 'dumb'"),
    ] {
        let text = Site::new(source).refused().await;
        assert!(text.contains(want), "{source}: {text}");
    }
}

#[tokio::test]
async fn every_faulty_script_is_named_not_the_first_only() {
    let text = Site::with(&[("one", "x ="), ("two", "y = 1"), ("three", "error('z')")]).refused().await;
    assert!(
        text.contains("script \"one\"") && text.contains("script \"three\"") && !text.contains("\"two\""),
        "{text}"
    );
}

#[tokio::test]
async fn a_source_with_an_extension_is_explained() {
    let mut site = Site::new("");
    site.settings.scripts[0].source = "policy.lua".to_owned();
    let text = site.refused().await;
    assert!(text.contains("policy/lua.lua") && text.contains("did you mean source = \"policy\""), "{text}");
}

#[tokio::test]
async fn scripts_are_found_beside_the_configuration_and_in_lua_below_it() {
    let mut site = Site::new("place = 'beside'");
    let below = site.folder.path().join("lua").join("deep");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(below.join("script.lua"), "print(place, 'then below', debug.getinfo(1, 'S').short_src)").unwrap();
    for source in ["deep.script", "deep/script"] {
        site.settings.scripts.truncate(1);
        let script = ph_policy::Script { source: source.to_owned(), ..site.settings.scripts[0].clone() };
        site.settings.scripts.push(script);
        site.log.clear();
        site.load().await;
        assert!(site.log.has("beside then below deep/script.lua"), "{:?}", site.log.all());
    }
}

#[tokio::test]
async fn require_gives_packages_files_and_never_fails_for_msys() {
    let site = Site::new(
        "local core = require('msys.core')
         assert(core == msys.core and core.VALIDATE_CONT == 0)
         assert(require('msys') == msys)
         for _, name in ipairs { 'msys.extended.message', 'msys.extended.vctx', 'msys.extended.ac', 'msys.pbp', 'msys.dumper',
             'msys.delivery', 'msys.boot', 'msys.extended.message_routing', 'msys.whatever' } do
           assert(type(require(name)) == 'table', name)
         end
         assert(require('msys.site').answer == 42)
         assert(require('helper').answer == 43)
         assert(require('msys.dp_config').custom_policy)
         assert(not pcall(require, 'ffi'))
         assert(select(2, pcall(require, 'no.such.file')):find(\"module 'no.such.file' not found\", 1, true))
         msys.config_of_ours = { x = 1 }
         module('msys.made_here', package.seeall)
         y = 2
         assert(msys.made_here.y == 2)",
    );
    std::fs::create_dir_all(site.folder.path().join("lua/msys")).unwrap();
    std::fs::write(site.folder.path().join("lua/msys/site.lua"), "return { answer = 0x2A }").unwrap();
    std::fs::write(site.folder.path().join("helper.lua"), "return { answer = 43 }").unwrap();
    // A file of a built-in package's name is not read.
    std::fs::write(site.folder.path().join("lua/msys/core.lua"), "error('read')").unwrap();
    site.load().await;
}

#[tokio::test]
async fn one_world_for_all_scripts_and_async_ok_tells_where_waiting_is_fine() {
    let site = Site::with(&[
        ("one", "shared = { n = 1 } assert(msys.asyncOk() == false)"),
        (
            "two",
            &module(
                "shared.n = shared.n + 1
                 function mod:init() print('init', shared.n, msys.asyncOk()) return true end
                 function mod:validate_connect(ac, vctx)
                   _TLS.count = (_TLS.count or 0) + 1
                   local inside
                   coroutine.wrap(function() inside = tostring(_TLS.count) end)()
                   print('hook', msys.asyncOk(), _TLS.count, inside, _OSTLS ~= nil)
                   return 0
                 end",
            ),
        ),
    ]);
    let policy = site.load().await;
    assert!(site.log.has("init 2 true"));
    let session = common::session();
    for n in 1..=2 {
        policy.call(&HookCall::ValidateConnect { session: &session }).await.unwrap();
        assert!(site.log.has(&format!("hook true {n} nil true")), "{:?}", site.log.all());
    }
}
