"""When a cluster's certificates are made anew, and that those in use work all the while."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from splitwise_core.rpc.tls import Files, Unusable, credentials
from splitwise_operator.certificates import AUTHORITY_LIFE, CERTIFICATE_LIFE, renewed

NAME = "demo.default.kv.splitwise.dev"
NOW = datetime.now(UTC)

Bundle = dict[str, bytes]


def files(bundle: Bundle, ca: Bundle | None = None) -> Files:
    return Files((ca or bundle)["ca.crt"], bundle["tls.crt"], bundle["tls.key"])


def trusts(one: Bundle, other: Bundle, at: datetime) -> bool:
    """Whether who has the first bundle takes the certificate of the second."""
    (leaf,) = x509.load_pem_x509_certificates(other["tls.crt"])
    for authority in x509.load_pem_x509_certificates(one["ca.crt"]):
        if leaf.issuer == authority.subject and authority.not_valid_after_utc > at:
            leaf.verify_directly_issued_by(authority)
            return True
    return False


def test_what_is_made_works_for_its_name_and_no_other() -> None:
    made = renewed({}, NAME, NOW)
    assert credentials(files(made), NAME).expires_s == pytest.approx(
        (NOW + CERTIFICATE_LIFE).timestamp(), abs=1
    )
    with pytest.raises(Unusable, match="Hostname mismatch"):
        credentials(files(made), "other.default.kv.splitwise.dev")


def test_two_clusters_do_not_trust_each_other() -> None:
    one, other = renewed({}, NAME, NOW), renewed({}, NAME, NOW)
    with pytest.raises(Unusable, match="issuer"):
        credentials(files(one, ca=other), NAME)


def test_what_is_good_stays_as_it_is() -> None:
    made = renewed({}, NAME, NOW)
    assert renewed(made, NAME, NOW + 0.6 * CERTIFICATE_LIFE) == made


def test_a_certificate_is_renewed_after_two_thirds_of_its_life_by_the_same_authority() -> None:
    made = renewed({}, NAME, NOW)
    later = renewed(made, NAME, NOW + 0.7 * CERTIFICATE_LIFE)
    assert {name for name in made if made[name] != later[name]} == {"tls.crt", "tls.key"}
    assert trusts(made, later, NOW)
    assert trusts(later, made, NOW)


@pytest.mark.parametrize("damaged", ["tls.crt", "tls.key"])
@pytest.mark.parametrize("content", [b"", b"damaged", None], ids=["empty", "damaged", "another's"])
def test_a_certificate_that_is_damaged_is_made_anew_by_the_same_authority(
    damaged: str, content: bytes | None
) -> None:
    made = renewed({}, NAME, NOW)
    broken = made | {damaged: renewed({}, NAME, NOW)[damaged] if content is None else content}
    healed = renewed(broken, NAME, NOW)
    assert (healed["ca.crt"], healed["ca.key"]) == (made["ca.crt"], made["ca.key"])
    credentials(files(healed), NAME)


def test_a_certificate_for_another_name_is_made_anew() -> None:
    made = renewed(renewed({}, "other", NOW), NAME, NOW)
    credentials(files(made), NAME)


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_an_authority_whose_key_is_lost_is_replaced_and_still_trusted(content: bytes) -> None:
    made = renewed({}, NAME, NOW)
    healed = renewed(made | {"ca.key": content}, NAME, NOW)
    assert healed["tls.crt"] == made["tls.crt"], "it works as well as before"
    assert trusts(healed, made, NOW)
    assert len(x509.load_pem_x509_certificates(healed["ca.crt"])) == 2


def test_at_every_moment_of_years_the_files_of_today_and_of_last_week_take_each_other() -> None:
    """Sidecars hear of a renewal at different times: within minutes, here within a week."""
    week, now = timedelta(days=7), NOW
    before, authorities = renewed({}, NAME, now), set()
    while now < NOW + 1.5 * AUTHORITY_LIFE:
        now += week
        after = renewed(before, NAME, now)
        assert trusts(before, after, now)
        assert trusts(after, before, now)
        (leaf,) = x509.load_pem_x509_certificates(after["tls.crt"])
        assert leaf.not_valid_after_utc > now + week
        authorities.add(after["ca.key"])
        before = after
    assert len(authorities) == 3
    assert len(x509.load_pem_x509_certificates(before["ca.crt"])) == 2, "one that ended is gone"
