"""The device flow of django-oauth-toolkit: mended where oauthlib 4 asks for more, and a person.

django-oauth-toolkit 3.4 was written for oauthlib 3.3. Both mends do nothing there.
Import this after `django.setup()` only.
"""
# Neither has types: whatever derives from them derives from Any.
# mypy: disable-error-code="misc, import-untyped"

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from oauth2_provider.models import DeviceGrant
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.views import DeviceAuthorizationView
from oauthlib.oauth2.rfc8628.grant_types import DeviceCodeGrant


class Validator(OAuth2Validator):
    def validate_device_code(self, client_id: str, code: str, request: Any) -> str | None:
        """Called for an approved code; any other has been answered by the view."""
        device = DeviceGrant.objects.filter(client_id=client_id, device_code=code).first()
        if device is None:
            return None
        request.user, request.scopes = device.user, device.scope.split()
        authorized: str = DeviceCodeGrant.DEVICE_CODE_AUTHORIZED
        return authorized


class DeviceView(DeviceAuthorizationView):
    def create_device_authorization_response(self, request: HttpRequest) -> Any:
        headers, response, status = super().create_device_authorization_response(request)
        if status == 200:
            response.pop("scope", None)
        return headers, response, status


def decide(request: HttpRequest) -> HttpResponse:
    """What a person decides on the page for devices: `user_code`, `approve` with yes or no."""
    device = DeviceGrant.objects.get(user_code=request.POST["user_code"])
    device.user = User.objects.get()
    device.status = device.AUTHORIZED if request.POST["approve"] == "yes" else device.DENIED
    device.save()
    return JsonResponse({})
