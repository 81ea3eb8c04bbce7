"""What is known of the API server's objects, whatever order the news comes in."""

from typing import Any

from splitwise_operator.store import Store

KEY = ("ns", "demo")


def body(name: str, version: int = 1, uid: str = "u", cluster: str = "demo") -> dict[str, Any]:
    labels = {"splitwise.dev/cluster": cluster}
    meta = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta | {"labels": labels}}


def known(store: Store) -> dict[str, int]:
    return {name: seen.version for (_, name), seen in store.objects(KEY).items()}


def test_an_object_is_known_as_it_was_last() -> None:
    store = Store()
    assert store.put("Service", body("a", 1)) == KEY
    store.put("Service", body("a", 3))
    assert known(store) == {"a": 3}


def test_old_news_changes_nothing() -> None:
    store = Store()
    store.put("Service", body("a", 3))
    store.put("Service", body("a", 2))
    assert known(store) == {"a": 3}


def test_an_object_made_anew_is_another_one() -> None:
    store = Store()
    store.put("Service", body("a", 3, uid="old"))
    store.put("Service", body("a", 2, uid="new"))
    assert known(store) == {"a": 2}


def test_what_a_list_does_not_have_is_gone() -> None:
    store = Store()
    for name in ("a", "b"):
        store.put("Service", body(name))
    store.put("Role", body("c"))
    assert store.keep_only("Service", None, [body("b", 2)]) == {KEY}
    assert known(store) == {"b": 2, "c": 1}


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    store = Store()
    store.put("Service", body("a"))
    assert store.keep_only("Service", "elsewhere", []) == set()
    assert known(store) == {"a": 1}


def test_an_object_whose_label_changes_is_of_another_cluster() -> None:
    store = Store()
    store.put("Service", body("a", 1))
    assert store.put("Service", body("a", 2, cluster="other")) == ("ns", "other")
    assert known(store) == {}


def test_what_was_never_known_is_not_dropped() -> None:
    store = Store()
    assert store.drop("Service", body("a")) is None
    store.put("Service", body("a"))
    assert store.drop("Service", body("a")) == KEY
    assert known(store) == {}
